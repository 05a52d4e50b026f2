"""The losses of the NumPy reference, and their gradients, against facts worked out by hand or in closed form."""

import math
from typing import Any

import numpy as np
import pytest
import reference
import reference_losses
from reference_samples import CLASSES, SETTINGS, WIDTH, make_conversation, make_params

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def made_outputs(sample: Any, augmented: Any, logits: Any, student_logits: Any) -> dict[str, Any]:
    return {
        "sample": np.array(sample, dtype=float),
        "augmented": {"t": np.array(augmented, dtype=float)},
        "logits": np.array(logits, dtype=float),
        "modality_logits": {"t": np.array(student_logits, dtype=float)},
        "reconstructions": {},
    }


def test_losses_by_hand_over_conversations_of_unequal_length() -> None:
    zeros, third = [0.0, 0.0], [math.log(3), 0.0]
    outputs = [
        made_outputs([[1, 1], [1, 1]], [[1, 1], [1, 3]], [zeros, third], [third, third]),
        made_outputs([[0, 0]], [[2, 1]], [third], [zeros]),
    ]
    outputs[0]["reconstructions"]["t"] = np.array([[1.0], [2.0]])
    outputs[1]["reconstructions"]["t"] = np.array([[3.0]])
    conversations = [
        {"features": {"t": np.array([[1.0], [0.0]])}, "labels": [0, -1]},
        {"features": {"t": np.array([[0.0]])}, "labels": [1]},
    ]
    settings = {"modalities": "t", "gamma1": 2.0, "gamma2": 3.0, "reconstruction_weight": 0.5}
    ce = (math.log(2) + math.log(4)) / 2 + (math.log(4 / 3) + math.log(2)) / 2
    kl = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
    kl += (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    # Three utterances of one feature and width two; the unlabelled one, in the middle, counts nowhere.
    expected = {"ce": ce, "reconstruction": 9 / 2, "mse": 5 / 4, "kl": kl}
    expected["total"] = ce + 0.5 * 9 / 2 + 2 * 5 / 4 + 3 * kl
    assert reference_losses.losses(outputs, conversations, settings) == pytest.approx(expected)
    # Class weights 1 and 3: normalised by 1 + 3; the KL stays unweighted.
    weighted = reference_losses.losses(outputs, conversations, {**settings, "class_weights": [1.0, 3.0]})
    ce = (math.log(2) + 3 * math.log(4)) / 4 + (math.log(4 / 3) + 3 * math.log(2)) / 4
    assert weighted["ce"] == pytest.approx(ce)
    assert weighted["kl"] == pytest.approx(kl)


def test_identical_teacher_and_student_cost_nothing(rng: np.random.Generator) -> None:
    h, logits = rng.normal(size=(3, 2)), rng.normal(size=(3, CLASSES))
    settings = {"modalities": "t", "reconstruction": False}
    shifted_logits = logits + rng.normal(size=(3, 1))  # the same distribution
    loss = reference_losses.losses([made_outputs(h, h, logits, shifted_logits)], [{"labels": [0, 1, 3]}], settings)
    assert loss["mse"] == 0
    assert loss["kl"] == pytest.approx(0, abs=1e-14)
    assert loss["reconstruction"] == 0


def test_kl_is_never_negative(rng: np.random.Generator) -> None:
    labels = np.zeros(200, dtype=np.int64)
    for scale in (1e-3, 1.0, 1e2, 1e4):
        teacher, student = scale * rng.normal(size=(2, 200, CLASSES))
        for row in range(200):
            kl = reference_losses.divergence(teacher[row : row + 1], student[row : row + 1], labels[:1])
            assert kl >= -1e-15 and np.isfinite(kl)


def test_no_label_no_loss(rng: np.random.Generator) -> None:
    params, talk = make_params(rng, SETTINGS), make_conversation(rng, 4)
    talk["labels"] = np.full(4, -1)
    loss = reference_losses.losses([reference.forward(params, talk, SETTINGS, None)], [talk], SETTINGS)
    assert set(loss.values()) == {0.0}
    talk["labels"] = np.full(4, CLASSES)
    with pytest.raises(ValueError, match="a label outside"):
        reference_losses.losses([reference.forward(params, talk, SETTINGS, None)], [talk], SETTINGS)


def test_derivative_along_the_classifiers_is_the_softmax_less_the_label(rng: np.random.Generator) -> None:
    params = make_params(rng, SETTINGS)
    talks = [make_conversation(rng, n) for n in (3, 1)]
    talks[0]["labels"][1] = -1
    labels = np.concatenate([talk["labels"] for talk in talks])
    valid = labels >= 0
    outputs = [reference.forward(params, talk, SETTINGS, None) for talk in talks]
    onehot = np.eye(CLASSES)[labels[valid]]
    probability = reference.softmax(np.concatenate([output["logits"] for output in outputs]))[valid]
    student = reference.softmax(np.concatenate([output["modality_logits"]["a"] for output in outputs]))[valid]
    along = {"bias": rng.normal(size=CLASSES)}
    # The stopped teacher: only cross-entropy reaches the fused classifier.
    derivative = reference_losses.directional_derivative(params, {"classifier": along}, talks, SETTINGS)
    assert derivative == pytest.approx((probability - onehot).mean(axis=0) @ along["bias"], abs=1e-8)
    assert reference_losses.directional_derivative(params, {"classifier": along}, talks, SETTINGS, term="kl") == 0
    # A student: (q - y) of cross-entropy and gamma2 (q - p) of the KL.
    derivative = reference_losses.directional_derivative(params, {"classifier_a": along}, talks, SETTINGS)
    slope = (student - onehot) + SETTINGS["gamma2"] * (student - probability)
    assert derivative == pytest.approx(slope.mean(axis=0) @ along["bias"], abs=1e-8)


def test_derivative_of_the_reconstruction_is_linear_least_squares(rng: np.random.Generator) -> None:
    settings = {**SETTINGS, "modalities": "t", "kernel": 1}
    params, talk = make_params(rng, settings), make_conversation(rng, 5)
    residual = reference.forward(params, talk, settings, None)["reconstructions"]["t"] - talk["features"]["t"]
    hidden = talk["features"]["t"] @ params["down_t"]["kernel"][0]
    scale = SETTINGS["reconstruction_weight"] * 2 / residual.size
    coordinates = [("up_t/kernel", (0, 2, 1)), ("up_t/bias", (3,))]
    gradient = reference_losses.loss_gradient(params, coordinates, [talk], settings)
    np.testing.assert_allclose(gradient, scale * np.array([hidden[:, 2] @ residual[:, 1], residual[:, 3].sum()]))


def test_teacher_moves_only_when_it_is_not_stopped(rng: np.random.Generator) -> None:
    params, talk = make_params(rng, SETTINGS), make_conversation(rng, 4)
    noises = [rng.normal(size=(4, WIDTH))]
    along = rng.normal(size=WIDTH)
    direction = {"fusion_v": {"mean_output": {"bias": along}}}
    flowing = {**SETTINGS, "stop_teacher": False}
    assert reference_losses.directional_derivative(params, direction, [talk], SETTINGS, noises, term="mse") == 0
    # The teacher is mu + eps sigma with mu a mean over three: d mse = 2/3 sum_m mean((H'_k - H'_m) along).
    output = reference.forward(params, talk, SETTINGS, noises[0])
    expected = sum(2 / 3 * ((output["sample"] - output["augmented"][m]) * along).mean() for m in "tav")
    derivative = reference_losses.directional_derivative(params, direction, [talk], flowing, noises, term="mse")
    assert derivative == pytest.approx(expected, abs=1e-8)
    # Cross-entropy moves the fused logits in either case.
    stopped_ce = reference_losses.directional_derivative(params, direction, [talk], SETTINGS, noises, term="ce")
    assert (
        stopped_ce
        == reference_losses.directional_derivative(params, direction, [talk], flowing, noises, term="ce")
        != 0
    )
