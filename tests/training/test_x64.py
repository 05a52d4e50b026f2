"""64-bit JAX changes no number: draws, and a whole training with its predictions, as without it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PREAMBLE = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_numpy_rank_promotion", "raise")
assert jax.config.jax_enable_x64 == (sys.argv[1] == "1")
"""
DRAWS = """
from cmath_jax.models.draws import random_bits, standard_normal
from cmath_jax.models.layers import drop
from cmath_jax.training.step import rng_key
found = []
for seed in (0, 1, 2**31 - 1):
    bits = random_bits(rng_key(jnp.int32(seed), "noise", 7), jnp.arange(-1, 40)[:, None], jnp.arange(30)[None])
    normal, kept = standard_normal(bits), drop(jnp.ones(bits.shape, jnp.float32), bits, 0.3)
    assert (bits.dtype, normal.dtype, kept.dtype) == (jnp.uint32, jnp.float32, jnp.float32)
    assert np.isfinite(np.asarray(normal)).all()
    found.append([np.asarray(x).tolist() for x in (bits, normal, kept)])
print(json.dumps(found))
"""
SHAPES = """
from functools import partial
from samples import tiny
from cmath_jax.models.registry import make_model
from cmath_jax.training.optim import make_optimizer
from cmath_jax.prediction.predictor import predict_step
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.step import HyperParams, eval_step, train_step
variants = ({}, {"model__name": "sdt"}, {"precision": "bfloat16"}, {"model__inject": "block", "model__causal": True})
for options in variants:
    config = tiny(parallel__devices=1, optim__average=0.9, optim__schedule="linear", optim__clip_norm=1.0, **options)
    corpus = load_configured(config)
    trainer = Trainer.of(config, corpus)
    model = make_model(config.model, corpus, config.data.modalities, config.precision)
    tx = make_optimizer(config.optim, trainer.batches.steps_before, config.train.epochs)
    state, batch = jax.eval_shape(trainer.initialize, 0), next(trainer.batches.epoch(0))
    step = partial(train_step, model=model, tx=tx, average=0.9, axis=None)
    trained = jax.eval_shape(step, state, batch, HyperParams.of(config, trainer.class_weight_c))
    classes = len(corpus.classes)
    numbers = np.float32(1), np.zeros((8, classes), np.float32)
    told = jax.eval_shape(partial(predict_step, model=model), state.params, batch, *numbers)
    split = trainer.evaluator.plans["test"][0][1], trainer.evaluator.features["test"]
    evaluated = jax.eval_shape(partial(eval_step, model=model), state.params, *split)
    kinds = {x.dtype.name for x in jax.tree.leaves((state, trained, told, evaluated))}
    assert kinds == {"float32", "int32"}, kinds
print(len(variants))
"""
TRAINING = """
from pathlib import Path
from cmath_jax.config import override
from cmath_jax.prediction.export import export
from cmath_jax.prediction.predictor import Predictor
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.fit import fit
from experiments.demo import get_config
folder = Path(sys.argv[2])
config = override(get_config(), {
    "model.width": 20, "model.heads": 2, "seeds": 1, "train.epochs": 2, "linear_reference": "t", "parallel.devices": 1,
    "data.simulation.train": 24, "data.simulation.validation": 12, "data.simulation.test": 12,
    "optim.schedule": "cosine", "optim.warmup_epochs": 0.5, "optim.average": 0.9, "optim.clip_norm": 1.0,
    "optim.weight_decay": 1e-4, "loss.class_weights": True,
})
corpus = load_configured(config)
trainer = Trainer.of(config, corpus)
state = trainer.initialize(3)
assert {x.dtype.name for x in jax.tree.leaves(state)} == {"float32", "int32"}
initial = [float(x.sum()) for x in jax.tree.leaves(state.params)]
result = fit(config, folder)
rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
predictor = Predictor.load(folder)
told = predictor.predict_features(corpus.splits["test"][:3])
export(predictor, folder / "exported")
print(json.dumps({
    "initial": initial,
    "rows": [{name: row[name] for name in ("train", "validation")} for row in rows],
    "test": result["test"]["weighted_f1"]["mean"],
    "told": [[*p.probabilities.values(), p.uncertainty] for talk in told for p in talk],
}))
"""


def run(code: str, x64: bool, *arguments: str) -> Any:
    """What the code prints last, in a process of its own, with warnings as errors."""
    environment = os.environ | {
        "JAX_ENABLE_X64": str(int(x64)),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # an entry of another process would warn
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + code, str(int(x64)), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_draws_are_the_same_numbers() -> None:
    assert run(DRAWS, True) == run(DRAWS, False)


def test_models_and_steps_stay_at_32_bits() -> None:
    assert run(SHAPES, True) == 4


@pytest.mark.slow
def test_a_training_is_the_same(tmp_path: Path) -> None:
    """Up to rounding: the optimizer works out its rates in the precision that JAX is set to."""
    wide, usual = (run(TRAINING, x64, str(tmp_path / str(x64))) for x64 in (True, False))
    assert wide["initial"] == usual["initial"]
    for one, other in zip(wide["rows"], usual["rows"], strict=True):
        for part in ("train", "validation"):
            assert one[part] == pytest.approx(other[part], rel=1e-3)
    assert wide["test"] == pytest.approx(usual["test"], abs=1e-6)
    np.testing.assert_allclose(wide["told"], usual["told"], atol=1e-2)
