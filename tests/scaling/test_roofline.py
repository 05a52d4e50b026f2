"""The bound of a step: its formulas against the model and the compiler, its rates against what they are made of."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import DIMS, conversations, pack

from cmath_jax.config import Config, override
from cmath_jax.data.packing import Shape
from cmath_jax.models.cmath import CMATH
from cmath_jax.scaling import roofline
from cmath_jax.scaling.roofline import Rates, Work, WorkloadSizes
from cmath_jax.training.optim import make_optimizer
from cmath_jax.training.step import HyperParams, init_state, train_step

CLASSES, SPEAKERS = 4, 3
SHAPE = Shape(2, 40)
SIZES = WorkloadSizes(DIMS, CLASSES, SPEAKERS, SHAPE)
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "pair": {"data.modalities": "ta"},
    "alone": {"data.modalities": "v"},
    "kernel": {"model.kernel": 3},
    "wo_mr": {"model.reconstruction": False},
    "wo_cma": {"model.cross_attention": False},
    "deterministic": {"model.noise": False},
    "averaged": {"optim.average": 0.9},
}


def config_of(variant: str, width: int = 40) -> Config:
    return override(Config(), {"model.width": width, "model.dropout": 0.0, **VARIANTS[variant]})


def traced_step(config: Config) -> tuple[Any, Any]:
    """A step of training, traced for abstract arguments, and its state."""
    model = CMATH(
        classes=CLASSES,
        speakers=SPEAKERS,
        width=config.model.width,
        heads=config.model.heads,
        dropout=0.0,
        modalities=config.data.modalities,
        kernel=config.model.kernel,
        reconstruction=config.model.reconstruction,
        cross_attention=config.model.cross_attention,
        noise=config.model.noise,
    )
    tx = make_optimizer(config.optim, lambda epoch: round(10 * epoch), 1)
    batch = pack(conversations([SHAPE.slots] * SHAPE.rows), [[r] for r in range(SHAPE.rows)], SHAPE.slots)
    average = config.optim.average
    state = jax.eval_shape(partial(init_state, batch=batch, model=model, tx=tx, average=average), 0)
    step = partial(train_step, model=model, tx=tx, average=average, axis=None)
    settings = HyperParams.of(config, np.ones(CLASSES, np.float32))
    return jax.jit(step).trace(state, batch, settings), state


def products_of(jaxpr: Any) -> float:
    """FLOPs of every matrix product of a trainer, by the shapes of its operands."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns"):
                total += products_of(inner)
            elif hasattr(inner, "jaxpr"):
                total += products_of(inner.jaxpr)
    return total


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_formulas_are_those_of_the_step(variant: str) -> None:
    """The products, to 1 %, and the parameters, exactly."""
    config = config_of(variant)
    traced, state = traced_step(config)
    assert roofline.product_flops(config, SIZES) == pytest.approx(products_of(traced.jaxpr.jaxpr), rel=0.01)
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    assert roofline.parameter_count(config, SIZES) == parameters
    moved = 36 if config.optim.average else 28
    assert roofline.training_work(config, SIZES).update_bytes == moved * parameters


def test_the_compiler_counts_what_the_formula_says() -> None:
    """Beyond the products it counts elementwise work: Adam's, some 20 FLOPs per parameter, and a few per cent."""
    config = config_of("full", width=120)
    traced, _ = traced_step(config)
    counted = roofline.Counted.of(traced.lower().compile())
    products, parameters = roofline.product_flops(config, SIZES), roofline.parameter_count(config, SIZES)
    assert products < counted.flops < 1.1 * products + 20 * parameters
    assert counted.bytes > roofline.training_work(config, SIZES).update_bytes


@pytest.mark.parametrize("told", [None, {}, {"utilization": 1.0}])
def test_a_compiler_may_count_nothing(told: dict[str, float] | None) -> None:
    class Program:
        def cost_analysis(self) -> dict[str, float] | None:
            return told

    assert roofline.Counted.of(Program()) == roofline.Counted(0.0, 0.0)


def test_phases_of_the_bound_add_up() -> None:
    rates = Rates(flops=100.0, bytes=10.0)
    assert Work(products=400.0, product_bytes=10.0, update_bytes=30.0).seconds(rates) == 4 + 3
    assert Work(products=400.0, product_bytes=50.0, update_bytes=30.0).seconds(rates) == 5 + 3
    assert (Work(400.0, 50.0, 30.0) * 5).seconds(rates) == 5 * 8


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rate_of_products(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the rate of the best size, by the fastest call, and no size is tried after one that takes long."""
    seconds = iter([0.5, 1.0, 16.0])
    monkeypatch.setattr(roofline, "fastest", lambda call: (call(), next(seconds))[1])
    monkeypatch.setattr(roofline, "PRODUCT_SIZES", (8, 16, 32, 64))
    monkeypatch.setattr(roofline, "LONGEST_PRODUCT", 2.0)
    assert roofline.product_rate(dtype) == 2 * 16**3 / 1.0


def test_rate_of_copies_counts_reads_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "fastest", lambda call: (call(), 0.5)[1])
    assert roofline.copy_rate(4000) == roofline.COPIES * 2 * 4000 / 0.5


def test_rates_are_measured() -> None:
    assert 1e8 < roofline.copy_rate(2**20) < 1e14
    assert roofline.fastest(lambda: jnp.ones(3)) > 0
