"""What figures show: neighbours in t-SNE, a fixed choice of many utterances, emotions that can be told apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_samples as samples

from cmath_jax.pages import drawing
from cmath_jax.report import paper, representation_figures, write_report
from cmath_jax.report.load import load_run

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


def test_neighbours_stay_neighbours() -> None:
    rng = np.random.default_rng(0)
    group_n = np.repeat(np.arange(4), 25)
    at_n2 = representation_figures.tsne(8 * np.eye(4, 20)[group_n] + rng.normal(size=(100, 20)))
    distance_nn = np.linalg.norm(at_n2[:, None] - at_n2[None], axis=-1) + 1e9 * np.eye(100)
    assert (group_n[distance_nn.argmin(1)] == group_n).mean() > 0.95


@pytest.mark.parametrize("utterances", [3, 5])
def test_few_utterances(tmp_path: Path, utterances: int) -> None:
    classes = samples.MELD
    labels = tuple((i % 7,) for i in range(utterances))
    split = samples.Split("meld", classes, labels, (), tuple((0,) for _ in labels))
    samples.write_run(tmp_path / "few", split, seeds=1, epochs=3)
    html = write_report([tmp_path / "few"]).read_text(encoding="utf-8")
    assert ("fewer than 5 different utterances" in html) == (utterances < 5)
    assert (tmp_path / "few" / "figures" / "tsne-fused-few.svg").exists() == (utterances >= 5)


def test_many_utterances_are_a_fixed_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = samples.make_split(450, texts=False)
    samples.write_run(tmp_path, split, seeds=1)
    monkeypatch.setattr(representation_figures, "tsne", lambda x_nd: x_nd[:, :2])
    run = load_run(tmp_path, "many")
    first, second = (representation_figures.embedding(run, "fused_nd", "many", "many") for _ in range(2))
    assert len(first.data) == 1 + 3000 and first.data == second.data
    assert f"3000 of {(split.label_n >= 0).sum()}, drawn at random" in first.caption


def test_emotions_of_like_names_keep_their_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = ("pleasantly surprised", "pleasantly surprising", "joy")
    samples.write_run(tmp_path, samples.make_split(6, classes=classes), seeds=1)
    figures: list[Any] = []
    monkeypatch.setattr(representation_figures, "finish", lambda figure, *_: figures.append(figure))
    run = load_run(tmp_path, "like")
    representation_figures.embedding(run, "fused_nd", "like", "like")
    (legend,) = figures[0].legends
    colours = [handle.get_color() for handle in legend.legend_handles]
    assert colours == list(drawing.emotion_colours(classes).values()) and len(set(colours)) == 3
    assert legend.get_texts()[2].get_text() == "joy"


def test_the_scale_of_representations_does_not_matter() -> None:
    x_nd = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    at_n2, huge_n2 = (representation_figures.tsne(x_nd * np.float32(scale)) for scale in (1, 2.0**120))
    np.testing.assert_array_equal(at_n2, huge_n2)


BAD_ARRAYS = {
    "not finite": lambda x: np.where(np.arange(len(x)) == 3, np.nan, x.T).T,
    "infinite": lambda x: np.where(np.arange(len(x)) == 3, np.inf, x.T).T,
    "too large": lambda x: x.astype(np.float64) * 1e300,
    "short": lambda x: x[:-1],
    "one number": lambda x: np.float32(1),
    "flat": lambda x: x.ravel()[: len(x)] if x.ndim == 2 else x[:, np.newaxis],
    "text": lambda x: x.astype(str),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_unusable_array_costs_only_its_figure(case: str, tmp_path: Path) -> None:
    samples.write_run(tmp_path / "run", samples.make_split(6), seeds=1, epochs=3)
    with np.load(tmp_path / "run" / "representations.npz") as file:
        arrays = dict(file)
    spoiled = {name: BAD_ARRAYS[case](arrays[name]) for name in ("fused_nd", "gate_k_a_n")}
    np.savez(tmp_path / "run" / "representations.npz", **{**arrays, **spoiled})
    page = write_report([tmp_path / "run"])
    drawn = {path.stem for path in (tmp_path / "run" / "figures").glob("*.svg")}
    assert {"tsne-raw-run", "gate-t-run"} <= drawn and not {"tsne-fused-run", "gate-k-run"} & drawn
    assert "finite numbers for each test utterance in fused_nd, gate_k_a_n." in page.read_text(encoding="utf-8")


def test_with_no_usable_array_there_is_a_page_that_says_so(tmp_path: Path) -> None:
    samples.write_run(tmp_path / "run", samples.make_split(6), seeds=1, epochs=3, representations=False)
    np.savez(tmp_path / "run" / "representations.npz", fused_nd=np.zeros((1, 2)), raw_np=np.zeros((1, 2)))
    html = write_report([tmp_path / "run"]).read_text(encoding="utf-8")
    assert "finite numbers for each test utterance in fused_nd, raw_np." in html and "fewer than" not in html


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


def test_the_paper_s_own_constant_row() -> None:
    """Video only on MELD is what always answering neutral comes to: the page says so."""
    assert paper.scores("meld", "modalities")["v"] == {"accuracy": 48.12, "weighted_f1": 31.27}
    assert paper.best_gammas("iemocap") == (1.0, 1.8) and paper.best_width("meld") == 400
    assert paper.length_groups("mine") == paper.length_groups("meld") != paper.length_groups("iemocap")
