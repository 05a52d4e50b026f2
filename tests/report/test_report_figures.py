"""What figures show: neighbours in t-SNE, a fixed choice of many utterances, colours of like names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_samples as samples

from cmath_jax.pages import drawing
from cmath_jax.report import paper, representation_figures, write_report
from cmath_jax.report.load import load_run


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


def test_the_paper_s_own_constant_row() -> None:
    """Video only on MELD is what always answering neutral comes to: the page says so."""
    assert paper.scores("meld", "modalities")["v"] == {"accuracy": 48.12, "weighted_f1": 31.27}
    assert paper.best_gammas("iemocap") == (1.0, 1.8) and paper.best_width("meld") == 400
    assert paper.length_groups("mine") == paper.length_groups("meld") != paper.length_groups("iemocap")
