"""The temperature, and the expected calibration error, against what is known."""

import numpy as np
import pytest
from scipy.special import softmax

from cmath_jax.evaluation.calibration import Calibration, Reliability, calibrated, fit_temperature


def drawn(temperature: float, n: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are sharper than they should be by a temperature, and labels drawn from the true ones."""
    rng = np.random.default_rng(0)
    logits_nc = rng.normal(scale=1.5, size=(n, 4))
    true_nc = softmax(logits_nc, axis=-1)
    label_n = (true_nc.cumsum(-1) < rng.uniform(size=(n, 1))).sum(-1)
    return softmax(logits_nc * temperature, axis=-1).astype(np.float32), label_n.astype(np.int32)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_overconfident_predictions_is_found(temperature: float) -> None:
    probability_nc, label_n = drawn(temperature)
    assert fit_temperature(probability_nc, label_n) == pytest.approx(temperature, rel=0.05)
    mended_nc = calibrated(probability_nc, temperature)
    np.testing.assert_allclose(mended_nc.sum(-1), 1, rtol=1e-9)
    np.testing.assert_array_equal(mended_nc.argmax(-1), probability_nc.argmax(-1))
    assert Reliability.of(mended_nc, label_n).error < 1
    if temperature == 3.0:
        assert Reliability.of(probability_nc, label_n).error > 10


def test_expected_calibration_error_by_hand() -> None:
    """Two bins: four predictions of 0.9, half of them right; two of 0.6, all right; one without a label."""
    probability_nc = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 2 + [[0.9, 0.1]])
    label_n = np.array([0, 1, 0, 1, 0, 0, -1])
    found = Reliability.of(probability_nc, label_n, bins=5)
    assert found.count_j.tolist() == [0, 0, 0, 2, 4]
    np.testing.assert_allclose(found.confidence_j, [0, 0, 0, 0.6, 0.9])
    np.testing.assert_allclose(found.accuracy_j, [0, 0, 0, 1.0, 0.5])
    assert found.error == pytest.approx(100 * (4 * 0.4 + 2 * 0.4) / 6)
    assert Reliability.of(np.array([[1.0, 0.0]]), np.array([0])).error == 0  # a certainty is in the last bin


def test_a_probability_of_zero_does_no_harm() -> None:
    probability_nc = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    temperature = fit_temperature(probability_nc, np.array([0, 1, 1]))
    assert np.isfinite(temperature)
    assert np.isfinite(calibrated(probability_nc, temperature)).all()


def test_the_test_split_has_no_part_in_the_temperature() -> None:
    probability_nc, label_n = drawn(2.0, 2_000)
    other_nc, other_n = drawn(0.3, 2_000)
    splits = {"validation": probability_nc, "test": other_nc}, {"validation": label_n, "test": other_n}
    found = Calibration.of(*splits)
    assert found.temperature == pytest.approx(fit_temperature(probability_nc, label_n))
    assert found.error["validation"]["after"] < found.error["validation"]["before"]
    assert found.error["test"]["after"] > found.error["test"]["before"]  # made worse, and said so
