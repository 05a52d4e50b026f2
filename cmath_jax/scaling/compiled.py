"""Compiles the training steps of a config for devices that are not there, from shapes alone. Nothing is run.

The steps are those of `Trainer`, on a mesh of the devices of a `Target`. Of the corpus there are the lengths of its
conversations, and no features. Each point is compiled in a process of its own, since the packages that compile read
their settings when they are loaded, and end the process where they find a program too strange:

    python -m cmath_jax.scaling.compiled tpu:v5e:4x4 < config.json
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmath_jax.config import Config, from_dict, to_dict
from cmath_jax.data.batches import Table, TrainingBatches
from cmath_jax.data.packing import Shape
from cmath_jax.data.sources import simulate
from cmath_jax.errors import FailedError, InputError, last_line, require
from cmath_jax.models.registry import make_model
from cmath_jax.scaling import roofline
from cmath_jax.scaling.collectives import SUM, by_kind, collectives
from cmath_jax.scaling.measurement import check_counted, engine_name
from cmath_jax.scaling.tiles import estimated_cycles, tile_padding
from cmath_jax.scaling.topology import Target
from cmath_jax.training.devices import EVERYWHERE, TRIAL, TRIAL_STEPS, Devices, make_devices
from cmath_jax.training.step import HyperParams
from cmath_jax.training.trainer import batches_of, compiled_steps

REASON = 300  # characters of what a compiler says; it may go on for pages


class RefusedError(InputError):
    """The error of a program that the compiler refuses, such as one that does not fit into the memory of a device."""


@dataclass(frozen=True)
class Workload:
    """The training steps of a config, as shapes.

    Attributes:
      arguments: of the compiled function, abstract.
      steps: the function, `trainer.compiled_steps`.
    """

    devices: Devices
    batches: TrainingBatches
    shape: Shape
    arguments: tuple[Any, ...]
    steps: Any

    @classmethod
    def of(cls, config: Config, at_hand: tuple[Any, ...]) -> "Workload":
        """Makes the workload of a config on some of the devices. Raises InputError as `make_devices`."""
        trials = max(1, config.parallel.population)
        devices = make_devices(config.parallel, config.train.batch_size, trials, at_hand)
        table = table_of(config)
        batches = batches_of(config, table, devices)
        shape = Shape(batches.shape.rows, batches.slots(batches.first_whole))
        sizes = sizes_of(config)
        model = make_model(config.model, sizes, config.data.modalities, config.precision)
        initialize, steps = compiled_steps(config, model, batches, devices)
        plan = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batches.steps, *x.shape), x.dtype), table.plan([], shape))
        features = {
            m: jax.ShapeDtypeStruct((len(x_nd) + 1, x_nd.shape[1]), x_nd.dtype) for m, x_nd in table.features.items()
        }
        hyper_params = HyperParams.of(config, np.ones(len(sizes.classes), np.float32))
        number = devices.shapes(jax.ShapeDtypeStruct((), jnp.int32), EVERYWHERE)
        arguments = (
            devices.shapes(jax.eval_shape(initialize, 0), TRIAL),
            devices.shapes(plan, TRIAL_STEPS),
            devices.shapes(features, EVERYWHERE),
            devices.shapes(hyper_params, TRIAL),
            number,
            number,
        )
        return cls(devices, batches, shape, arguments, steps)


def table_of(config: Config) -> Table:
    """Returns the training split of a simulated corpus: lengths that are its own, features and labels that are all 0.

    The features take no memory.

    Raises:
      InputError: for a corpus that is not simulated, whose sizes are not known without its data, or is streamed.
    """
    what = f"dataset={config.dataset!r}" if config.dataset != "simulated" else "data.stream=true"
    require(
        config.dataset == "simulated" and not config.data.stream,
        f"{what}: what is compiled for other devices has the sizes of dataset='simulated', and no data",
    )
    simulation = config.data.simulation
    length_b = simulate.lengths(simulation, "train")
    nothing_n = np.zeros(int(length_b.sum()), np.int32)
    dims = {m: d for m, d in simulate.dims(simulation).items() if m in config.data.modalities}
    return Table(
        ids=tuple(map(str, range(len(length_b)))),
        features={m: np.broadcast_to(np.float32(0), (len(nothing_n), d)) for m, d in dims.items()},
        speaker_n=nothing_n,
        label_n=nothing_n,
        length_b=length_b,
        present={},
    )


def sizes_of(config: Config) -> Any:
    """Returns the classes and speakers of the simulated corpus, as `Sizes`."""
    simulation = config.data.simulation
    return SimpleNamespace(classes=simulation.class_names, speakers=simulation.max_speakers)


def compile_point(config: Config, target: Target) -> dict[str, Any]:
    """Compiles the training steps of `config` for its part of the target, in the environment of the target.

    Returns:
      What the program says of itself, ready for JSON. Of each device and step: `flops` by formula, `counted_flops` by
      the compiler, which counts the body of a loop once, or None; the bytes of `argument`, `output` beyond arguments,
      `temporary` and `code`, and `memory`, their sum; `collectives` by kind, with their number and bytes;
      `tile_padding`, `cycles` and `cycle_seconds`, or None, as in `tiles`. What bounds a step at the quoted rates:
      seconds of `compute`, `memory` and `interconnect`, and `bound`: the exchange, or the products and then the update,
      whichever takes longer, of which `bound_by` is the part that takes most.

    Raises:
      InputError: for options that do not go together, and as `make_devices`.
      RefusedError: if the compiler refuses the program; with its reason.
    """
    check_counted(config)
    target = target.part(config.parallel.devices)
    work = Workload.of(config, target.devices())
    began = time.monotonic()
    try:
        executable = work.steps.executable(*work.arguments)
    except jax.errors.JaxRuntimeError as error:
        raise RefusedError(_first_of(str(error))) from error
    seconds = time.monotonic() - began
    text = executable.as_text()
    return {
        **_facts(config, target, work),
        **_memory(executable, target),
        **_program(executable, text, target),
        **_bounds(config, target, work, text),
        "compile_seconds": seconds,
    }


def _facts(config: Config, target: Target, work: Workload) -> dict[str, Any]:
    devices, batches, trials = work.devices, work.batches, max(1, config.parallel.population)
    utterances = len(batches.table.label_n)
    return {
        "target": str(target),
        "engine": engine_name(devices, trials),
        "devices": len(devices.devices),
        "members": trials,
        "rows": work.shape.rows,
        "slots": work.shape.slots,
        "conversations": trials * len(batches.table.length_b) / batches.steps,
        "utterances": trials * utterances / batches.steps,
        "padding": 1 - utterances / (batches.steps * work.shape.rows * work.shape.slots),
    }


def _memory(executable: Any, target: Target) -> dict[str, Any]:
    size = executable.memory_analysis()
    parts = {
        "argument": size.argument_size_in_bytes,
        "output": size.output_size_in_bytes - size.alias_size_in_bytes,
        "temporary": size.temp_size_in_bytes,
        "code": size.generated_code_size_in_bytes,
    }
    memory = sum(parts.values())
    return {**parts, "memory": memory, "device_memory": target.sheet.memory, "fits": memory <= target.sheet.memory}


def _program(executable: Any, text: str, target: Target) -> dict[str, Any]:
    counts = executable.cost_analysis() or {}
    cycles = estimated_cycles(text) if target.sheet.clock else None
    return {
        "counted_flops": counts.get("flops"),
        "tile_padding": tile_padding(text),
        "cycles": cycles,
        "cycle_seconds": None if cycles is None else cycles / target.sheet.clock,
    }


def _bounds(config: Config, target: Target, work: Workload, text: str) -> dict[str, Any]:
    """Returns what a step has to do at least, and how long that takes at the quoted rates."""
    devices, found = work.devices, by_kind(collectives(text))
    share = work.shape._replace(rows=work.shape.rows // devices.rows)
    features = {m: x_nd.shape[1] for m, x_nd in work.batches.table.features.items()}
    classes, speakers = len(sizes_of(config).classes), sizes_of(config).speakers
    sizes = roofline.WorkloadSizes(features, classes, speakers, share)
    each = roofline.training_work(config, sizes) * devices.trials_each
    rates, sheet = target.sheet.rates(config.precision), target.sheet
    alone = {"compute": each.products / rates.flops, "memory": (each.product_bytes + each.update_bytes) / rates.bytes}
    exchange = sheet.exchange_seconds(found.get(SUM, {"bytes": 0})["bytes"], devices.rows)
    return {
        "parameters": roofline.parameter_count(config, sizes),
        "flops": each.products,
        "collectives": found,
        **{f"{name}_seconds": seconds for name, seconds in alone.items()},
        "interconnect_seconds": exchange,
        "bound": max(each.seconds(rates), exchange),
        "bound_by": "interconnect" if exchange > each.seconds(rates) else max(alone, key=lambda name: alone[name]),
    }


def _first_of(message: str) -> str:
    return " ".join(message.split())[:REASON]


def compile_apart(config: Config, target: Target) -> dict[str, Any]:
    """Returns what `compile_point` does, from a process of its own.

    Raises:
      InputError, RefusedError: as `compile_point`.
      FailedError: if the process comes to an end of another kind.
    """
    command = [sys.executable, "-m", "cmath_jax.scaling.compiled", str(target)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(
        command,
        input=json.dumps(to_dict(config)),
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)} | target.environment_variables(),
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        raise FailedError(f"the compiler ended with code {done.returncode}: {_first_of(last_line(done.stderr))}")
    answer: Mapping[str, Any] = json.loads(lines[-1])
    if "refused" in answer:
        raise RefusedError(answer["refused"])
    if "wrong" in answer:
        raise InputError(answer["wrong"])
    return dict(answer["numbers"])


def main() -> None:
    """Answers a target, the argument, and a config, on standard input, by a line of JSON."""
    answer: dict[str, Any]
    try:
        answer = {"numbers": compile_point(from_dict(json.load(sys.stdin)), Target.parse(sys.argv[1]))}
    except RefusedError as error:
        answer = {"refused": str(error)}
    except InputError as error:
        answer = {"wrong": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
