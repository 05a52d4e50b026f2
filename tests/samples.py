"""Small corpora, batches and models that many tests share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.config import Config, DataConfig, LossConfig, OptimConfig, TrainConfig, override
from cmath_jax.data.batches import Batch, Table
from cmath_jax.data.corpus import Conversation
from cmath_jax.data.packing import Shape
from cmath_jax.data.sources.simulate import Simulation
from cmath_jax.models.cmath import CMATH
from cmath_jax.models.options.cmath import CMATHOptions
from cmath_jax.models.outputs import Outputs
from cmath_jax.training.checkpoint import Checkpoints
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.losses import LossWeights, loss_terms, total_loss
from cmath_jax.training.trainer import Trainer

KEYS = {"dropout": jax.random.key(1), "noise": jax.random.key(2)}
DIMS = {"t": 5, "a": 4, "v": 3}
SPEAKERS, CLASSES, WIDTH, HEADS = 3, 4, 6, 2


def conversations(lengths: Sequence[int], seed: int = 0, scale: float = 1.0) -> list[Conversation]:
    rng = np.random.default_rng(seed)
    return [
        Conversation(
            id=f"c{i}",
            features={m: (scale * rng.normal(size=(n, d))).astype(np.float32) for m, d in DIMS.items()},
            speakers=rng.integers(SPEAKERS, size=n).astype(np.int32),
            labels=rng.integers(CLASSES, size=n).astype(np.int32),
        )
        for i, n in enumerate(lengths)
    ]


def pack(talks: Sequence[Conversation], rows: Sequence[Sequence[int]], slots: int, modalities: str = "tav") -> Batch:
    """The conversations of each row, by their numbers, on the device."""
    batch = Table.of(talks, modalities).batch(rows, Shape(len(rows), slots))
    return jax.tree.map(jnp.asarray, batch)


def unpack(x_rl: Any, batch: Batch) -> np.ndarray:
    """[N, ...]: what belongs to the utterances of the split, in their order, out of [r, l, ...]."""
    utterance_rl = np.asarray(batch.utterance_rl)
    there_rl = utterance_rl >= 0
    values = np.asarray(x_rl)[there_rl]
    return values[np.argsort(utterance_rl[there_rl])]


def make_model(**options: Any) -> CMATH:
    settings: dict[str, Any] = {
        "classes": CLASSES,
        "speakers": SPEAKERS,
        "width": WIDTH,
        "heads": HEADS,
        "dropout": 0.0,
    }
    return CMATH(**(settings | options))


@partial(jax.jit, static_argnums=0)
def init(model: nn.Module, batch: Batch) -> Any:
    """Returns the first parameters; by one program, where operation by operation would be hundreds."""
    return model.init(jax.random.key(0), batch, train=False)["params"]


@partial(jax.jit, static_argnums=(0, 3))
def outputs_of(model: nn.Module, params: Any, batch: Batch, train: bool = False) -> Outputs:
    """Returns the outputs; in training, with rng keys that are always the same.

    Equal models share their programs: a test that patches what a model calls has to apply it itself.
    """
    outputs: Outputs = model.apply({"params": params}, batch, train=train, rngs=KEYS)
    return outputs


def float32(tree: Mapping[str, Any]) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def tiny(**values: Any) -> Config:
    """A config that trains in a moment; options by their dotted names, with __ for the dot."""
    config = Config(
        experiment="tiny",
        data=DataConfig(
            modalities="ta",
            simulation=Simulation(
                train=11, validation=4, test=5, mean_length=5.0, max_length=9, text_dim=9, audio_dim=6, visual_dim=5
            ),
        ),
        model=CMATHOptions(width=8, heads=2, dropout=0.2),
        optim=OptimConfig(learning_rate=1e-2),
        train=TrainConfig(epochs=3, batch_size=3),
    )
    return override(config, {name.replace("__", "."): value for name, value in values.items()})


def rows(folder: Path) -> list[dict[str, Any]]:
    """Of `metrics.jsonl`, without the only numbers that may differ between equal runs."""
    measured = ("seconds", "compile_seconds", "peak_memory_mb")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in measured} for row in lines]


def final_arrays(folder: Path, config: Config) -> tuple[Any, Any]:
    """The arrays of the latest and of the best checkpoint of seed 0."""
    trainer = Trainer.of(config, load_configured(config))
    like = {"state": jax.eval_shape(trainer.initialize, 0), "scaling": trainer.standardizer.tree()}
    with Checkpoints(folder / "checkpoints" / "seed_0") as checkpoints:
        return checkpoints.latest(like), checkpoints.best(like)


def losses_of(outputs: Outputs, batch: Any, loss: LossConfig, class_weight_c: Any = None) -> dict[str, jax.Array]:
    """Returns the value of each loss, and of their weighted sum, on one device."""
    weighted = class_weight_c is not None
    loss = replace(loss, class_weights=weighted)
    weights = LossWeights.of(loss, class_weight_c if weighted else np.ones(CLASSES, np.float32))
    terms = {name: term.value() for name, term in loss_terms(outputs, batch, weights).items()}
    return {**terms, "total": total_loss(terms, weights)}
