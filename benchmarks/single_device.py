"""Training with this package against training the way this field does it, side by side on one device.

    python -m benchmarks.single_device [--steps 20] [--rounds 5] [--datasets meld] [--precisions float32]

Both sides train the same CMATH on the same conversations: simulated corpora of the shapes of MELD and IEMOCAP, at the
paper's settings. This package as `fit` does it; the other side is `benchmarks.torch_cmath`, eager PyTorch, which is
left out where PyTorch is not installed (requirements-bench.txt). They alternate in one process; in each round the rates
of the device are measured too (`cmath_jax.scaling.roofline`). Before that, fresh processes show how long it takes to
the first step, with an empty compilation cache (cold) and with what that run left in it (warm), and the memory that it
takes.

Prints tables, and writes `single_device.json` and `single_device.svg` into --output.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import side_jax
from benchmarks.packing import SETTINGS, SHAPES
from cmath_jax.config import PRECISIONS, Config, override, to_dict
from cmath_jax.pages import drawing
from cmath_jax.scaling import roofline
from cmath_jax.training import compiler
from cmath_jax.training.corpora import load_configured

PYTORCH = importlib.util.find_spec("torch") is not None
MEMORY_STEPS = 3  # after the first, until the peak of memory is read


@dataclass(frozen=True)
class Start:
    """Fresh processes that start to train; None where there is no such thing.

    Attributes:
      cold, warm: seconds of `import`, `build` and `step`, see `benchmarks.first_step`.
      peak_memory: bytes.
    """

    cold: dict[str, float]
    warm: dict[str, float] | None
    peak_memory: int


@dataclass(frozen=True)
class Pace:
    """How fast a side trains.

    Attributes:
      trials: how many are trained side by side.
      step: seconds of a step by round: means over the steps of the round, for all trials together.
      planning: seconds of the host by epoch, besides its steps.
      epoch: seconds of a trial for an epoch: the median step, all steps, the planning; divided by the trials.
    """

    trials: int
    step: list[float]
    planning: float
    epoch: float

    @classmethod
    def of(cls, trials: int, step: list[float], planning: float, steps: int) -> "Pace":
        return cls(trials, step, planning, (steps * float(np.median(step)) + planning) / trials)


@dataclass(frozen=True)
class Limit:
    """The roofline of a step, by medians over the rounds.

    Attributes:
      product, copy: the rates, FLOP/s and bytes/s.
      work: what a step has to do.
      counted: what the compiler counts in a step.
      seconds: the bound, for one run.
    """

    product: float
    copy: float
    work: roofline.Work
    counted: roofline.Counted
    seconds: float


@dataclass(frozen=True)
class Result:
    """All of one data set in one precision; `starts` and `paces` by the name of the side."""

    dataset: str
    precision: str
    settings: dict[str, Any]
    parameters: int
    steps_per_epoch: int
    padding: float
    starts: dict[str, Start]
    paces: dict[str, Pace]
    limit: Limit


def config_of(dataset: str, precision: str) -> Config:
    simulation = {f"data.simulation.{option}": value for option, value in SHAPES[dataset].items()}
    return override(Config(), {**SETTINGS[dataset], **simulation, "precision": precision, "parallel.devices": 1})


def measure_starts(config: Config, programs: Path) -> dict[str, Start]:
    """In processes of their own, before this one takes memory of a device; their programs go to `programs`."""
    options = json.dumps(to_dict(config))

    def start(framework: str, environment: dict[str, str]) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.first_step", framework, options, str(MEMORY_STEPS)]
        done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)

    with tempfile.TemporaryDirectory() as cache:
        caching = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        cold, warm = start("jax", caching), start("jax", caching)
        shutil.copytree(cache, programs, dirs_exist_ok=True)
    starts = {"ours": Start(_seconds(cold), _seconds(warm), int(cold["peak_memory"]))}
    if PYTORCH:
        cold = start("torch", {})
        starts["PyTorch"] = Start(_seconds(cold), None, int(cold["peak_memory"]))
    return starts


def _seconds(start: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in start.items() if name != "peak_memory"}


def measure(dataset: str, precision: str, trials: int, steps: int, rounds: int, starts: dict[str, Start]) -> Result:
    """Both sides and the rates of the device, alternating."""
    config = config_of(dataset, precision)
    corpus = load_configured(config)
    ours = side_jax.Side(config, corpus)
    sides: dict[str, tuple[int, Any]] = {"ours": (1, ours)}
    if trials > 1:
        sides[f"ours, {trials} side by side"] = (trials, side_jax.Side(config, corpus, trials))
    if PYTORCH:
        from benchmarks import side_torch

        sides["PyTorch"] = (1, side_torch.Side(config, corpus))

    batches = ours.trainer.batches
    sizes = roofline.WorkloadSizes(corpus.dims, len(corpus.classes), corpus.speakers, batches.shape)
    chunk = min(steps, batches.steps) or batches.steps
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    rates: list[roofline.Rates] = []
    for number in range(1 + rounds):  # the first compiles and warms up
        for name, (_, side) in sides.items():
            done, took = side.advance(chunk if number else min(chunk, 2))
            if number:
                seconds[name].append(took / done)
        if number:
            rates.append(roofline.measure_rates(jnp.dtype(precision), roofline.state_bytes(config, sizes)))

    def pace(name: str) -> Pace:
        trials, side = sides[name]
        planning = float(np.median(side.planning)) if isinstance(side, side_jax.Side) else 0.0
        return Pace.of(trials, seconds[name], planning, side.steps_per_epoch)

    work = roofline.training_work(config, sizes)
    median = roofline.Rates(*np.median([(rate.flops, rate.bytes) for rate in rates], axis=0).tolist())
    return Result(
        dataset=dataset,
        precision=precision,
        settings=dict(SETTINGS[dataset]) | {"rows": batches.shape.rows, "slots": batches.shape.slots},
        parameters=roofline.parameter_count(config, sizes),
        steps_per_epoch=batches.steps,
        padding=1 - len(batches.table.label_n) / (batches.steps * batches.shape.rows * batches.shape.slots),
        starts=starts,
        paces={name: pace(name) for name in sides},
        limit=Limit(median.flops, median.bytes, work, roofline.Counted.of(ours.executable()), work.seconds(median)),
    )


def table(result: Result) -> str:
    """For people."""
    limit, width = result.limit, result.settings["model.width"]
    lines = [
        f"{result.dataset}, {result.precision}: width {width}, {result.settings['train.batch_size']} conversations a "
        f"step, {result.steps_per_epoch} steps an epoch, {result.parameters / 1e6:.1f} million parameters",
        f"{'':<22}{'step, ms (all rounds)':>28}{'epoch, s':>10}{'x PyTorch':>11}{'GFLOP/s':>9}{'of limit':>10}"
        f"{'cold, s':>9}{'warm, s':>9}{'memory, MB':>12}",
    ]
    for name, pace in result.paces.items():
        low, middle, high = (1000 * q / pace.trials for q in np.quantile(pace.step, (0, 0.5, 1)))
        spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        ours = name != "PyTorch"
        gain = f"{faster(result, name):.2f}" if PYTORCH and ours else ""
        rate = f"{limit.work.products / middle / 1e6:.0f}" if ours else ""
        share = f"{100000 * limit.seconds / middle:.0f} %" if ours else ""
        line = f"{name:<22}{spread:>28}{pace.epoch:>10.2f}{gain:>11}{rate:>9}{share:>10}"
        if start := result.starts.get(name):
            warm = f"{sum(start.warm.values()):.1f}" if start.warm else ""
            line += f"{sum(start.cold.values()):>9.1f}{warm:>9}{start.peak_memory / 2**20:>12.0f}"
        lines.append(line)
    lines.append(
        f"limit of a step {1000 * limit.seconds:.2f} ms: {limit.work.products / 1e9:.2f} GFLOP of products at "
        f"{limit.product / 1e9:.0f} GFLOP/s; {limit.work.product_bytes / 1e6:.0f} MB beside them and "
        f"{limit.work.update_bytes / 1e6:.0f} MB of update at {limit.copy / 1e9:.1f} GB/s. The compiler counts "
        f"{limit.counted.flops / 1e9:.2f} GFLOP, {limit.counted.bytes / 1e6:.0f} MB. "
        f"Padding {100 * result.padding:.1f} %"
    )
    return "\n".join(lines)


def faster(result: Result, name: str) -> float:
    """How many times as fast as PyTorch an epoch of a run is."""
    return result.paces["PyTorch"].epoch / result.paces[name].epoch


@drawing.drawn
def plot(results: list[Result], device: str) -> drawing.Graphic:
    """Time of a step of every side, with the range over rounds, and the limit."""
    figure, axes_r = drawing.canvas(8.0, 0.7 + 1.0 * len(results), nrows=len(results), squeeze=False)
    rows: list[list[Any]] = [["dataset", "precision", "side", "median ms", "lowest ms", "highest ms", "limit ms"]]
    for axes, result in zip(axes_r[:, 0], results, strict=True):
        limit = 1000 * result.limit.seconds
        for y, (name, pace) in enumerate(result.paces.items()):
            low, middle, high = (1000 * q / pace.trials for q in np.quantile(pace.step, (0, 0.5, 1)))
            axes.barh(y, middle, color=drawing.ORANGE if name == "PyTorch" else drawing.BLUE, height=0.6)
            axes.plot([low, high], [y, y], color=drawing.INK)
            rows.append([result.dataset, result.precision, name, middle, low, high, limit])
        axes.axvline(limit, color=drawing.GREEN)
        axes.set_yticks(range(len(result.paces)), list(result.paces))
        axes.invert_yaxis()
        axes.set_title(f"{result.dataset}, {result.precision}")
    axes_r[-1, 0].set_xlabel("milliseconds of a step and run; green: the roofline")
    caption = f"Time of a training step: {device}"
    return drawing.finish(figure, "single_device", caption, caption, rows)


def environment() -> dict[str, Any]:
    """Device, versions, date."""
    device = jax.devices()[0]
    kind = f"{device.platform}: {device.device_kind}"
    if device.platform == "cpu":
        kind = f"cpu: {os.cpu_count()} cores of {roofline.processor()}"
    packages = ["jax", "jaxlib", "flax", "numpy", *(["torch"] if PYTORCH else [])]
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {"device": kind, "versions": versions, "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}


def main() -> None:
    compiler.set_flags()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="of each side in each round; 0: a whole epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--datasets", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--population", type=int, default=0, help="so many runs side by side, besides the single one")
    parser.add_argument("--no-starts", action="store_true", help="no fresh processes, which compile for themselves")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    began = time.monotonic()
    if not PYTORCH:
        print("PyTorch is not installed: without comparison (pip install -r requirements-bench.txt)")
    cases = [(dataset, precision) for dataset in options.datasets for precision in options.precisions]
    with tempfile.TemporaryDirectory() as own:
        # On a GPU a program takes a minute to compile: what the first processes compiled is not compiled again.
        programs = os.environ.get("JAX_COMPILATION_CACHE_DIR") or own
        jax.config.update("jax_compilation_cache_dir", programs)
        starts: dict[tuple[str, str], dict[str, Start]] = {}
        for case in cases:
            starts[case] = {} if options.no_starts else measure_starts(config_of(*case), Path(programs))
            told = [
                f"{name} {sum(start.cold.values()):.1f} s to the first step" for name, start in starts[case].items()
            ]
            print(*case, *told, sep=", ", flush=True)
        facts = environment()
        versions = [f"{name} {number}" for name, number in facts["versions"].items()]
        print(facts["device"], facts["date"], *versions, sep=", ", flush=True)
        results = []
        options.output.mkdir(parents=True, exist_ok=True)
        for case in cases:
            results.append(measure(*case, options.population, options.steps, options.rounds, starts[case]))
            print(f"\n{table(results[-1])}", flush=True)
            record = facts | {"steps": options.steps, "results": [asdict(result) for result in results]}
            (options.output / "single_device.json").write_text(json.dumps(record, indent=1))
            (options.output / "single_device.svg").write_text(plot(results, facts["device"]).svg)
    print(f"\n{options.output / 'single_device.json'}, .svg; {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
