"""Figure 5: scores by the length of the conversation, in the paper's groups C1 to C3, of CMATH, MultiDAG and SDT.

    python launch.py --config experiments/lengths.py --config.dataset=meld --config.data.features_dir=DIR

The same runs as for Tables 2 and 3; the report sorts the test conversations by length. `--config.quick=true` tries it
out; see experiments/settings.py.
"""

from collections.abc import Sequence

from cmath_jax.config import Config
from cmath_jax.sweeps.experiment import Section
from experiments import main_results, settings


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "lengths")


def sweep(config: Config) -> Sequence[Section]:
    del config
    return [Section("lengths", {model: main_results.point(model) for model in ("cmath", "multidag", "sdt")})]
