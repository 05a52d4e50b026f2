"""What the benchmark of a device beside the processor says of two measurements."""

import numpy as np
import pytest

from benchmarks.agreement import DEVICE, EQUAL, LOSS, compared, config_of
from cmath_jax.models.options import MODELS


def numbers(loss: float = 2.0, equal: bool = True, **gradients: list[float]) -> dict[str, np.ndarray]:
    about = {LOSS: np.asarray(loss), EQUAL: np.asarray(equal), DEVICE: np.asarray("H100")}
    return about | {name: np.asarray(values) for name, values in gradients.items()}


def test_a_difference_is_a_share_of_the_largest_gradient_of_its_parameter() -> None:
    ours, reference = numbers(2.002, a=[1.0, 2.2], b=[0.0, 0.03]), numbers(a=[1.0, 2.0], b=[0.0, 0.02])
    assert compared("sdt", ours, reference) == "| sdt | H100 | 1.0e-03 | 5.0e-01 | `b` | equal bits |"


def test_a_gradient_that_is_rounding_alone_is_a_share_of_the_others() -> None:
    ours, reference = numbers(equal=False, a=[1.0], b=[-1e-9]), numbers(a=[1.0], b=[1e-9])
    assert compared("sdt", ours, reference) == "| sdt | H100 | 0.0e+00 | 2.0e-05 | `b` | differ |"


@pytest.mark.parametrize("dataset", ["meld", "iemocap"])
def test_every_model_has_sizes_for_some_data(dataset: str) -> None:
    configs = {name: config_of(name, dataset, "bfloat16") for name in MODELS}
    assert {config.precision for config in configs.values() if config} == {"bfloat16"}
    without = {name for name, config in configs.items() if config is None}
    assert without == ({"dialogue_gcn", "multidag"} if dataset == "meld" else set())
