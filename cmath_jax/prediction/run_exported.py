"""Runs the model beside this file on features: python example.py FEATURES.npz [-o OUT.npz]

Needs JAX and NumPy, and nothing else. FEATURES.npz holds one conversation: `speakers` [n], numbers from 0 in the order
of appearance, and for each modality of model.json its features [n, d]: `t` text, `a` audio, `v` visual. A row of NaN
says that the utterance lacks the modality.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import numpy as np

here = Path(__file__).parent
record = json.loads((here / "model.json").read_text(encoding="utf-8"))
model = jax.export.deserialize(bytearray((here / "model.stablehlo").read_bytes()))

parser = argparse.ArgumentParser(description="The emotion of every utterance, from its features.")
parser.add_argument("features", metavar="FEATURES.npz")
parser.add_argument("-o", "--output", metavar="OUT.npz")
options = parser.parse_args()
given = np.load(options.features, allow_pickle=False)

# Batches of one: conversations of unequal length would be padded, with False in `valid` where there is nothing.
features = {m: given[m][None].astype(np.float32) for m in record["modalities"]}
speakers = given["speakers"][None].astype(np.int32)
if speakers.shape[1] > record["longest"]:
    sys.exit(f"{options.features}: it has {speakers.shape[1]} utterances; the model takes {record['longest']} at most")
probability, uncertainty = jax.device_get(model.call(features, speakers, np.ones(speakers.shape, bool)))

for probability_c, doubt in zip(probability[0], uncertainty[0], strict=True):
    label = record["classes"][int(probability_c.argmax())]
    print(json.dumps({"label": label, "probability": float(probability_c.max()), "uncertainty": float(doubt)}))
if options.output:
    np.savez(options.output, probability=probability[0], uncertainty=uncertainty[0])
