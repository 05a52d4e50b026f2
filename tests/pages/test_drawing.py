"""The colours of figures: emotions can be told apart, by all eyes, and any emotions get some."""

import numpy as np
import pytest
import report_samples as samples

from cmath_jax.pages import drawing

TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_OKLAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
EYES = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear_rgb(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("classes", [samples.MELD, samples.IEMOCAP])
def test_emotions_can_be_told_apart(classes: tuple[str, ...], dark: bool, eyes: str) -> None:
    by_light = {pair[0]: pair[dark] for pair in drawing.COLOURS.values()}
    seen = [EYES[eyes] @ linear_rgb(by_light[colour]) for colour in drawing.emotion_colours(classes).values()]
    lab = [TO_OKLAB @ np.cbrt(TO_CONES @ np.clip(colour, 0, 1)) for colour in seen]
    assert min(np.linalg.norm(a - b) for i, a in enumerate(lab) for b in lab[:i]) > 0.085


def test_any_emotions_get_colours() -> None:
    names = [f"emotion-{i}" for i in range(12)]
    colours = drawing.emotion_colours(names)
    assert list(colours) == names and len(set(list(colours.values())[:8])) == 8
    assert drawing.emotion_colours(["bored", "joy"])["bored"] != drawing.emotion_colours(["bored", "joy"])["joy"]
