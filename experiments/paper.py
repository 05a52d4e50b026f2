"""The whole paper: every table and figure, one after another, in one report. What they share is trained once.

    python launch.py --config experiments/paper.py --config.dataset=meld --config.data.features_dir=DIR

`--config.parts=main_results,ablations` takes only those; `--config.widths=100,200` and `--config.gammas=0,1` other
points of two of them. `--config.recipe=tuned` starts from CMATH as a search found it, not from the paper's settings.
`--config.quick=true` tries it out; see experiments/settings.py.
"""

from collections.abc import Sequence

from cmath_jax.config import Config
from cmath_jax.errors import InputError
from cmath_jax.sweeps.experiment import Section
from experiments import ablations, lengths, main_results, modalities, settings, width
from experiments import gammas as grid

PARTS = "main_results,ablations,modalities,width,lengths,gammas"


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "paper")


def sweep(
    config: Config,
    quick: bool = False,
    parts: str = PARTS,
    widths: str = width.WIDTHS,
    gammas: str = grid.VALUES,
) -> Sequence[Section]:
    sections = [
        *main_results.sweep(config),
        *ablations.sweep(config),
        *modalities.sweep(config),
        *width.sweep(config, quick, widths),
        *lengths.sweep(config),
        *grid.sweep(config, quick, gammas),
    ]
    unknown = set(parts.split(",")) - set(PARTS.split(","))
    if unknown:
        raise InputError(f"parts={parts!r} has {', '.join(sorted(unknown))}; there are {PARTS}")
    return [section for section in sections if section.kind in parts.split(",")]
