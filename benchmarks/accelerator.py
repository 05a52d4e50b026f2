"""A TPU or GPU that is at hand: its steps beside what was compiled for its kind, and processes that share it.

    python -m benchmarks.accelerator [--settings meld iemocap] [--parts devices_weak,length,precision] [--quick]

Measures the studies of experiments/scaling.py on one device, then compiles the same points for the data sheet of that
device (requirements-aot.txt), in processes of their own. Prints for each point the step as measured, the bound at the
quoted rates and, on a TPU, the compiler's estimate, and how many times longer the step took. Then two processes train
a few steps together, each with all devices that it sees: on one GPU that asks two ranks of NCCL to share it.
Whether they may is what is printed.

Writes the folders of all studies into --output; what is there is not measured again.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError, last_line
from cmath_jax.scaling.datasheets import SHEETS, name_of
from cmath_jax.scaling.topology import SLICES, Target

ROOT = Path(__file__).parents[1]
LAUNCH = (sys.executable, str(ROOT / "launch.py"), "--config")
FEW_STEPS = ("--config.train.epochs=1", "--config.data.simulation.train=16")
SCALING = str(ROOT / "experiments" / "scaling.py")


def studied(folder: Path, *options: str) -> dict[str, Any]:
    """Runs the scaling studies with the options into a folder, and returns what they wrote; points may have failed.

    Raises InputError where they were refused, which they have said themselves.
    """
    if subprocess.run([*LAUNCH, SCALING, "--workdir", str(folder), *options]).returncode not in (0, 1):
        raise InputError(f"no comparison: the studies of {folder} have not ended")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def target_of(kind: str) -> Target:
    """Returns one device of this kind, to compile for.

    Raises InputError where there is no data sheet of it.
    """
    name = name_of(kind)
    if name is None:
        known = ", ".join(sheet.name for sheet in SHEETS.values())
        raise InputError(f"there is no data sheet of this device, {kind}, to compile for; there are those of {known}")
    return Target("tpu", name, SLICES[name][0]) if name in SLICES else Target("cuda", name, "1")


def compared(measured: Mapping[str, Any], compiled: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """Yields study, point, and what was measured and compiled of each point that has numbers in both results."""
    others = {study["kind"]: study["points"] for study in compiled["studies"]}
    for study in measured["studies"]:
        for name, point in study["points"].items():
            other = others.get(study["kind"], {}).get(name, {})
            if point.get("numbers") and other.get("numbers"):
                yield study["kind"], name, point["numbers"], other["numbers"]


def table(rows: Iterator[tuple[str, str, Any, Any]]) -> str:
    """Returns the comparison as a table of Markdown."""
    lines = [
        "| study | point | step, ms | bound, ms | step / bound | estimate, ms | step / estimate |",
        "|" + 7 * "---|",
    ]
    for study, point, ours, theirs in rows:
        step, bound, estimate = ours["step_median"], theirs["bound"], theirs["cycle_seconds"]
        guess = f"{1e3 * estimate:.3g} | {step / estimate:.2f}" if estimate else "– | –"
        lines.append(f"| {study} | {point} | {1e3 * step:.3g} | {1e3 * bound:.3g} | {step / bound:.2f} | {guess} |")
    return "\n".join(lines)


def share_the_device(folder: Path, count: int = 2) -> list[str]:
    """Trains with several processes that see the same devices, and returns how each of them ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"distributed": "true", "coordinator": f"127.0.0.1:{port}", "num_processes": count}
    processes = [
        subprocess.Popen(
            [
                *(*LAUNCH, str(ROOT / "experiments" / "demo.py"), "--workdir", str(folder), *FEW_STEPS),
                *(f"--config.parallel.{name}={value}" for name, value in {**told, "process_id": i}.items()),
            ],
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # or the first takes the memory of all
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    ends = []
    for i, process in enumerate(processes):
        _, said = process.communicate()
        end = f"refused: {last_line(said)}" if process.returncode else "trained to the end"
        ends.append(f"process {i}: {end}")
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["meld", "iemocap"], choices=["meld", "iemocap"])
    parser.add_argument("--parts", default="devices_weak,batch,length,precision", help="studies of the experiment")
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--quick", action="store_true", help="small models, to try it out")
    parser.add_argument("--output", type=Path, default=Path("runs/accelerator"))
    args = parser.parse_args()
    same = [f"--config.parts={args.parts}", f"--config.precision={args.precision}"]
    same += ["--config.quick=true"] if args.quick else []
    try:
        for setting in args.settings:
            options = [*same, f"--config.setting={setting}"]
            measured = studied(args.output / f"{setting}_measured", "--config.devices=1", *options)
            kind = measured["environment"]["devices"][0]
            target = target_of(kind)
            compiled = studied(args.output / f"{setting}_compiled", f"--config.compile_for={target}", *options)
            print(f"\n{setting}, {args.precision}, measured on {kind}, compiled for {target}; bounds at quoted rates\n")
            print(table(compared(measured, compiled)), flush=True)
    except InputError as error:
        print(error, file=sys.stderr)
    print("\nTwo processes on the same devices:", *share_the_device(args.output / "shared"), sep="\n")


if __name__ == "__main__":
    main()
