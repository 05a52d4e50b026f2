"""What the devices exchange in a compiled training step, read in the program that the compiler made.

The partitioner is the same for all platforms, so that simulated devices tell what a pod would do.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cmath_jax.scaling.collectives import collectives

ROOT = Path(__file__).parents[2]
SLOTS, ROWS_EACH, STEPS = 8, 2, 3  # of the plan: slots of a row, rows on a device
SCALARS = 16  # float32 numbers that a step may exchange beside the gradients: counts, the loss and its terms
ONE_MODALITY = {"data__modalities": "t"}  # takes less time to compile
STEPS_OF = {
    "float32 on 4": {"parallel__devices": 4},
    "float32 on 16": {"parallel__devices": 16},
    "pmap on 4": {"parallel__devices": 4, "parallel__engine": "pmap", **ONE_MODALITY},
    "pmap on 16": {"parallel__devices": 16, "parallel__engine": "pmap", **ONE_MODALITY},
    "bfloat16 on 4": {"parallel__devices": 4, "precision": "bfloat16", **ONE_MODALITY},
    "bfloat16 on 16": {"parallel__devices": 16, "precision": "bfloat16", **ONE_MODALITY},
    "4 trials on 4": {"parallel__devices": 4, "trials": 4, **ONE_MODALITY},
    "2 trials on 4": {"parallel__devices": 4, "trials": 2, **ONE_MODALITY},
    "8 trials on 16": {"parallel__devices": 16, "trials": 8, **ONE_MODALITY},
}
# Compiles the training step for each of the options; nothing is trained. With more devices than other tests have.
COMPILES = """
import json, sys
import jax
from samples import tiny
from cmath_jax.data.prepared.streaming import epoch_plans
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.devices import TRIAL, TRIAL_STEPS
from cmath_jax.training.step import HyperParams
from cmath_jax.training.trainer import Trainer
steps_of, slots, rows_each, steps = json.loads(sys.argv[1])
found = {}
for name, options in steps_of.items():
    trials = options.pop("trials", 1)
    config = tiny(train__batch_size=16, **options)
    trainer = Trainer.of(config, load_configured(config), trials)
    shapes = trainer.devices.shapes
    state = jax.eval_shape(trainer.initialize, 0)
    _, (plan, *_) = next(epoch_plans(trainer.batches, [0], [0], 0))
    shape = (steps, rows_each * trainer.devices.rows, slots)
    plan = jax.tree.map(lambda x: jax.ShapeDtypeStruct(shape, x.dtype), plan)
    hyper_params = HyperParams.of(config, trainer.class_weight_c)
    executable = trainer.executable(shapes(state, TRIAL), shapes(plan, TRIAL_STEPS), shapes(hyper_params, TRIAL))
    memory = executable.memory_analysis()
    found[name] = {
        "mesh": trainer.devices.mesh.devices.shape,
        "text": executable.as_text(),
        "flops": executable.cost_analysis()["flops"],
        "temporary": memory.temp_size_in_bytes,
        "arguments": memory.argument_size_in_bytes,
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "16",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # an entry of another process would warn
    options = json.dumps([STEPS_OF, SLOTS, ROWS_EACH, STEPS])
    command = [sys.executable, "-W", "error", "-c", COMPILES, options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "pmap"])
def test_devices_exchange_a_sum_of_gradients_and_some_scalars(compiled: dict[str, Any], precision: str) -> None:
    """In float32, once a step, and as much on many devices as on few."""
    numbers = []
    for devices in (4, 16):
        step = compiled[f"{precision} on {devices}"]
        found = collectives(step["text"])
        assert {collective.kind for collective in found} == {"all-reduce"}
        assert {dtype for collective in found for dtype, _ in collective.shapes} == {"f32"}
        assert all("/while/body/" in collective.where for collective in found)
        assert {collective.groups for collective in found} == {frozenset([frozenset(range(devices))])}
        numbers.append(sum(collective.numbers for collective in found))
        assert 0 < numbers[-1] - step["parameters"] <= SCALARS
    assert numbers[0] == numbers[1]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_device_computes_no_more_beside_others(compiled: dict[str, Any], precision: str) -> None:
    few, many = (compiled[f"{precision} on {devices}"] for devices in (4, 16))
    # A product of the forward pass takes two for each weight and slot: the count is of something.
    assert few["flops"] > 2 * few["parameters"]
    assert many["flops"] == pytest.approx(few["flops"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["float32", "bfloat16", "pmap"])
def test_a_device_needs_no_more_memory_beside_others(compiled: dict[str, Any], engine: str) -> None:
    few, many = (compiled[f"{engine} on {devices}"] for devices in (4, 16))
    assert many["arguments"] == few["arguments"] > 0
    assert many["temporary"] <= 1.01 * few["temporary"]


@pytest.mark.slow
def test_trials_of_several_devices_exchange_no_more_beside_others(compiled: dict[str, Any]) -> None:
    few, many = (collectives(compiled[name]["text"]) for name in ("2 trials on 4", "8 trials on 16"))
    assert {collective.kind for collective in many} == {"all-reduce"}
    assert sum(each.bytes for each in many) == sum(each.bytes for each in few) > 0
    assert {len(group) for collective in many for group in collective.groups} == {2}


@pytest.mark.slow
def test_trials_exchange_nothing(compiled: dict[str, Any]) -> None:
    step = compiled["4 trials on 4"]
    assert step["mesh"] == [4, 1]
    assert collectives(step["text"]) == []
    assert "while" in step["text"]


@pytest.mark.slow
def test_what_the_rows_of_a_trial_exchange_stays_among_them(compiled: dict[str, Any]) -> None:
    step = compiled["2 trials on 4"]
    assert step["mesh"] == [2, 2]
    found = collectives(step["text"])
    assert {collective.kind for collective in found} == {"all-reduce"}
    assert {collective.groups for collective in found} == {frozenset({frozenset({0, 1}), frozenset({2, 3})})}
    assert 0 < sum(collective.numbers for collective in found) - step["parameters"] <= SCALARS


def mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("trials", "rows"))


# Each of [4, 8] on a device, between the two of an axis; and how many numbers a device gets.
EXCHANGES: dict[str, tuple[Callable[[jax.Array], jax.Array], int]] = {
    "all-reduce": (lambda x: jax.lax.psum(x, "rows"), 32),
    "all-gather": (lambda x: jax.lax.all_gather(x, "rows"), 64),
    "all-to-all": (lambda x: jax.lax.all_to_all(x, "rows", 0, 1, tiled=True), 32),
    "collective-permute": (lambda x: jax.lax.ppermute(x, "rows", [(0, 1), (1, 0)]), 32),
    "reduce-scatter": (lambda x: jax.lax.psum_scatter(x, "rows", tiled=True), 16),
}


@pytest.mark.parametrize("kind", EXCHANGES)
def test_the_reader_finds_every_kind(kind: str) -> None:
    exchange, numbers = EXCHANGES[kind]
    on_mesh = jax.shard_map(exchange, mesh=mesh(), in_specs=P("trials"), out_specs=P("trials"), check_vma=False)
    (found,) = collectives(jax.jit(on_mesh).lower(jnp.ones((8, 8))).compile().as_text())
    assert (found.kind, found.numbers) == (kind, numbers)
    pairs = frozenset({frozenset({0, 1}), frozenset({2, 3})})
    assert found.groups == (frozenset() if kind == "collective-permute" else pairs)


def test_the_reader_finds_a_sum_in_bfloat16() -> None:
    on_mesh = jax.shard_map(lambda x: jax.lax.psum(x, "trials"), mesh=mesh(), in_specs=P("trials"), out_specs=P())
    (found,) = collectives(jax.jit(on_mesh).lower(jnp.ones((8, 8), jnp.bfloat16)).compile().as_text())
    assert found.shapes == (("bf16", (4, 8)),)
    assert found.groups == frozenset({frozenset({0, 2}), frozenset({1, 3})})


def test_the_reader_finds_what_the_compiler_has_to_gather() -> None:
    """Rows that are compared with all others, which nobody has asked to be exchanged."""
    rows = NamedSharding(mesh(), P("rows"))
    compare = jax.jit(lambda x: x @ x.T, in_shardings=rows, out_shardings=rows)
    found = collectives(compare.lower(jnp.ones((8, 8))).compile().as_text())
    assert "all-gather" in {collective.kind for collective in found}


def test_the_reader_reads_groups_that_are_counted() -> None:
    line = "ENTRY %main () -> f32[] {\n  %x = f32[] all-reduce(%y), replica_groups=[2,2]<=[2,2]T(1,0), to_apply=%add\n}"
    assert collectives(line)[0].groups == frozenset({frozenset({0, 2}), frozenset({1, 3})})
    assert collectives(line.replace("T(1,0)", ""))[0].groups == frozenset({frozenset({0, 1}), frozenset({2, 3})})
