"""How fast training is, and what it is bound by: against devices, engine, width, batch, length, population, precision.

    python launch.py --config experiments/scaling.py --workdir DIR

Nothing is trained to an end: each point is some training steps of CMATH at the paper's settings for MELD, on a
simulated corpus of its shape, on whatever devices there are. Studies start from one device, width 400 and 4
conversations a step, and change one thing; `--config.parts=width,length` takes some of them, `--config.devices=64` goes
up to so many devices. `--config.quick=true` tries it out with small models.

It writes result.json, scaling.csv, figures/ and report.html. A point that needs more devices or memory than there are
is named with the reason; expected are 8,192 utterances in one conversation on one device, in memory that grows with the
length and not with its square. The same command goes on after an interruption, and measures again what was measured
with other devices, versions or code.

    python launch.py --config experiments/scaling.py --config.compile_for=tpu:v5e:16x16

compiles the steps for devices that are not there, and runs none (docs/scaling.md): what they need of memory, what they
exchange, and what bounds them at the rates of data sheets. `--config.setting=iemocap` has the paper's settings and the
sizes of IEMOCAP in place of MELD's.

On 2 CPU cores: quick, one and a half minutes; a step of the settings themselves, 0.1 s; with 64 conversations, 0.7 s.
A point is compiled in one to three minutes.
"""

from collections.abc import Callable, Mapping, Sequence

from cmath_jax.config import Config, override
from cmath_jax.errors import InputError, require_one_of
from cmath_jax.scaling.topology import Target
from cmath_jax.sweeps.experiment import Measuring, Section
from experiments import iemocap, meld

FEW = 6  # numbers of devices that are all compiled for; of more, every second
EACH = 16  # conversations of a step on each device, where a batch grows with them
SETTINGS: Mapping[str, tuple[Callable[[], Config], Mapping[str, float]]] = {
    "meld": (meld.get_config, {"train": 512, "text_dim": 1024, "audio_dim": 300, "visual_dim": 342}),
    "iemocap": (
        iemocap.get_config,
        {
            **{"train": 512, "mean_length": 48.4, "max_length": 110, "classes": 6, "max_speakers": 2},
            **{"text_dim": 1024, "audio_dim": 1582, "visual_dim": 342},
        },
    ),
}
SMALL = {"train": 64}
PARTS = "devices_strong,devices_weak,engine,width,batch,length,population,precision"
COMPILED_PARTS = "devices_strong,devices_weak,division,width,tiles,batch,length,population,precision"


def get_config(quick: bool = False, setting: str = "meld", compile_for: str = "") -> Config:
    require_one_of("setting", setting, SETTINGS)
    get_settings, sizes = SETTINGS[setting]
    simulation = {**(SMALL if quick else sizes), "validation": 1, "test": 1}
    if compile_for:  # large enough for the largest batch
        simulation["train"] = max(simulation["train"], EACH * Target.parse(compile_for).count)
    options = {
        "experiment": "_".join(filter(None, ["scaling", *compile_for.split(":")])),
        "dataset": "simulated",
        "linear_reference": "",
        "parallel.devices": 1,
        "parallel.population": 1,
    }
    config = override(get_settings(), options | {f"data.simulation.{name}": n for name, n in simulation.items()})
    return override(config, {"model.width": 40, "model.dropout": 0.0}) if quick else config


def scaling(
    config: Config,
    quick: bool = False,
    devices: int = 8,
    parts: str = PARTS,
    repeats: int = 9,
    seconds: float = 0.5,
    compile_for: str = "",
) -> tuple[Sequence[Section], Measuring]:
    widths = (20, 40) if quick else (100, 200, 400, 800, 1600)
    batches = (4, 16) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256)
    lengths = (64, 256) if quick else (64, 256, 1024, 2048, 4096, 8192)
    populations = (1, 2) if quick else (1, 2, 5, 10, 20)
    counts = [2**i for i in range(devices.bit_length())][: 2 if quick else None]
    if compile_for:
        parts = COMPILED_PARTS if parts == PARTS else parts
        powers = [2**i for i in range(Target.parse(compile_for).count.bit_length())]
        counts = sorted({*powers[::-2], 1}) if len(powers) > FEW else powers
    strong, each = (4, 4) if quick else (64, EACH)  # conversations: of a step, and of a step on each device
    studies = {
        "devices_strong": {str(n): {"parallel.devices": n, "train.batch_size": strong} for n in counts if n <= strong},
        "devices_weak": {str(n): {"parallel.devices": n, "train.batch_size": each * n} for n in counts},
        "engine": {
            engine: {"parallel.engine": engine, "parallel.devices": 0, "train.batch_size": strong}
            for engine in ("jit", "pmap")
        },
        "width": {str(width): {"model.width": width} for width in widths},
        "batch": {str(size): {"train.batch_size": size} for size in batches},
        "length": {str(length): one_conversation(length) for length in lengths},
        "population": {str(size): {"parallel.population": size} for size in populations},
        "precision": {precision: {"precision": precision} for precision in ("float32", "bfloat16")},
    }
    if compile_for:
        shared = [n for n in counts if n <= strong]
        studies["division"] = {
            str(runs): {"parallel.devices": shared[-1], "parallel.population": runs, "train.batch_size": strong}
            for runs in sorted({1, shared[len(shared) // 2], shared[-1]})
        }
        studies["tiles"] = {
            f"{width}.{width // heads}": {"model.width": width, "model.heads": heads, "train.batch_size": each}
            for width, heads in ((400, 10), (400, 4), (384, 3), (512, 4))
        }
    unknown = set(parts.split(",")) - set(studies)
    if unknown:
        raise InputError(f"parts={parts!r} has {', '.join(sorted(unknown))}; there are {','.join(studies)}")
    repeats, seconds = (min(repeats, 3), min(seconds, 0.1)) if quick else (repeats, seconds)
    measuring = Measuring(repeats, seconds, compile_for)
    return [Section(kind, points) for kind, points in studies.items() if kind in parts.split(",")], measuring


def one_conversation(length: int) -> dict[str, float]:
    """Alone in its step, of that many utterances: the drawn lengths are cut."""
    simulated = {"mean_length": 1000.0 * length, "max_length": length, "train": 2}
    return {"train.batch_size": 1, **{f"data.simulation.{name}": value for name, value in simulated.items()}}
