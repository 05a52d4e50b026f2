"""In `precision=float32` every matrix product is one of float32, on every device and in every program.

Read in the programs as the compilers of accelerators get them; that takes no accelerator.
"""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from samples import tiny

from cmath_jax.models import attention
from cmath_jax.models.precision import products_of
from cmath_jax.models.registry import make_model
from cmath_jax.prediction.export import PLATFORMS, program_of
from cmath_jax.prediction.predictor import Predictor, predict_step
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.optim import make_optimizer
from cmath_jax.training.step import eval_step, train_step
from cmath_jax.training.trainer import Trainer

OPTIONS: dict[str, dict[str, Any]] = {
    "cmath": {"model__kernel": 3},
    "in chunks": {"model__inject": "block", "model__causal": True},
    "sdt": {"model__name": "sdt"},
}
TENSOR = r"tensor<(?:[?\d]+x)*(\w+)>"
PRODUCT = re.compile(rf"stablehlo\.(?:dot_general|dot|convolution)\b.*: \({TENSOR}, {TENSOR}\)")
EXACT = ("f32", "f32", "HIGHEST")


def products(program: str) -> list[tuple[str, ...]]:
    """Returns the types of the factors, and their precision, of each product of a program in StableHLO."""
    found = []
    for line in program.splitlines():
        if product := PRODUCT.search(line):
            precisions = set(re.findall(r"DEFAULT|HIGHEST|HIGH", line)) or {"DEFAULT"}
            found.append((*product.groups(), " ".join(sorted(precisions))))
    return found


def lowered(step: Any, *arguments: Any) -> list[tuple[str, ...]]:
    """Returns the products of a step, as a TPU gets it."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    return products(jax.jit(step).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text())


def training_and_evaluation(**options: Any) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Returns the products of the two steps."""
    config = tiny(parallel__devices=1, **options)
    corpus = load_configured(config)
    trainer, model = (
        Trainer.of(config, corpus),
        make_model(config.model, corpus, config.data.modalities, config.precision),
    )
    tx = make_optimizer(config.optim, trainer.batches.steps_before, config.train.epochs)
    state, batch = jax.eval_shape(trainer.initialize, 0), next(trainer.batches.epoch(0))
    hyper_params = jax.tree.map(lambda x: x[0], trainer.hyper_params([config]))
    train = partial(train_step, model=model, tx=tx, average=config.optim.average, axis=None)
    evaluate = partial(eval_step, model=model)
    return lowered(train, state, batch, hyper_params), lowered(evaluate, state.params, batch, trainer.features)


def prediction_and_export(**options: Any) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Returns the products of the step that predicts, and of the program that is exported, for all platforms."""
    config = tiny(parallel__devices=1, **options)
    corpus = load_configured(config)
    trainer, model = (
        Trainer.of(config, corpus),
        make_model(config.model, corpus, config.data.modalities, config.precision),
    )
    params = jax.eval_shape(trainer.initialize, 0).params
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
    facts: Any = None  # which are for people
    settings = (config, corpus.classes, corpus.speakers, corpus.dims, {}, trainer.standardizer, 1.0, facts)
    predictor = Predictor(TrainedModel(*settings, params=zeros))
    b, length = jax.export.symbolic_shape("b, l", constraints=["l <= 512"])
    features = {m: jax.ShapeDtypeStruct((b, length, corpus.dims[m]), jnp.float32) for m in predictor.modalities}
    speaker, valid = (jax.ShapeDtypeStruct((b, length), dtype) for dtype in (jnp.int32, jnp.bool_))
    exported = jax.export.export(jax.jit(program_of(predictor)), platforms=PLATFORMS)(features, speaker, valid)
    batch = next(trainer.batches.epoch(0))
    predicted = lowered(partial(predict_step, model=model), params, batch, *predictor.numbers)
    return predicted, products(exported.mlir_module())


@pytest.mark.parametrize("name", OPTIONS)
def test_products_of_float32_are_float32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of gradients, too, which some layers write themselves, and of what is computed again for them."""
    if name == "in chunks":
        monkeypatch.setattr(attention, "DENSE_SLOTS", 4)
    training, evaluation = training_and_evaluation(**OPTIONS[name])
    assert set(training) == set(evaluation) == {EXACT}
    assert len(training) > 2 * len(evaluation) > 10  # a product has two more of its size for its gradients


@pytest.mark.parametrize("name", ["cmath", "sdt"])
def test_products_of_float32_are_float32_in_predictions(name: str) -> None:
    predicted, exported = prediction_and_export(**OPTIONS[name])
    assert set(predicted) == set(exported) == {EXACT}
    assert len(exported) >= len(predicted) > 5  # it holds them for each platform


def test_products_of_bfloat16_are_as_fast_as_the_device_can() -> None:
    """But those that turn what a model says into an uncertainty, which are of float32."""
    steps = training_and_evaluation(precision="bfloat16")
    assert {precision for step in steps for *_, precision in step} == {"DEFAULT"}
    assert all("bf16" in factors for step in steps for *factors, _ in step)
    for program in prediction_and_export(precision="bfloat16"):
        assert set(program) == {("bf16", "bf16", "DEFAULT"), EXACT}


def test_layers_of_flax_need_not_be_told() -> None:
    """A baseline may be made of them."""
    model = nn.Dense(2, dtype=jnp.float32)

    def apply(x: jax.Array) -> Any:
        with products_of(model):
            return model.init_with_output(jax.random.key(0), x)[0]

    assert lowered(apply, np.ones((3, 4), np.float32)) == [EXACT]


def test_products_are_found_with_their_precision() -> None:
    def all_kinds(x: jax.Array) -> Any:
        y = jnp.matmul(x, x, precision=("highest", "default")) + jnp.matmul(x, x)
        image = x[None, None]
        return y, jax.lax.conv(image, image, (1, 1), "SAME"), jnp.matmul(x, x.astype(jnp.bfloat16), precision="highest")

    found = products(jax.jit(all_kinds).lower(jnp.ones((4, 4))).as_text())
    assert found == [
        ("f32", "f32", "DEFAULT HIGHEST"),
        ("f32", "f32", "DEFAULT"),
        ("f32", "f32", "DEFAULT"),
        EXACT,
    ]
