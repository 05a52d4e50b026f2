"""Standardization is blind to units: of the features, of what is constant, and of everything that reads them."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import final_arrays, rows, tiny

from cmath_jax.config import Config
from cmath_jax.data.corpus import SPLITS, Conversation, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.moments import ROUNDINGS, Moments
from cmath_jax.data.sources.own import write_own
from cmath_jax.data.sources.simulate import Simulation, simulate
from cmath_jax.data.standardize import FARTHEST, Standardizer
from cmath_jax.errors import InputError
from cmath_jax.evaluation.reference_points import linear
from cmath_jax.prediction.export import _standardized, program_of
from cmath_jax.prediction.predictor import Predictor
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.report.representation_figures import tsne
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.fit import fit
from cmath_jax.training.trainer import Trainer

quickly = settings(max_examples=200, deadline=None, database=None, derandomize=True)
SMALL = Simulation(train=20, validation=10, test=10, text_dim=6, audio_dim=5, visual_dim=4)
FEW = 5  # conversations of one utterance each, in the corpora of columns


def column(x_n: np.ndarray, others: np.ndarray | None = None) -> Corpus:
    """A corpus of one feature: a training split of conversations of unequal lengths, and a test split."""
    parts = np.array_split(x_n.astype(np.float32), min(FEW, len(x_n)))
    test_n = np.zeros(1, np.float32) if others is None else others.astype(np.float32)

    def talk(name: str, part_n: np.ndarray) -> Conversation:
        nothing = np.zeros(len(part_n), np.int32)
        return Conversation(name, {"a": part_n[:, None]}, nothing, nothing)

    talks = [talk(f"c{i}", part_n) for i, part_n in enumerate(parts)]
    return Corpus("column", ("x", "y"), {"train": talks, "validation": [], "test": [talk("t", test_n)]}, 1)


def standardized(corpus: Corpus, split: str = "train") -> np.ndarray:
    """float32 [n]: without a warning of overflow, division or anything else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = Standardizer.of(corpus, True).apply(corpus.splits[split])
    z_n = np.concatenate([c.features["a"][:, 0] for c in scaled])
    assert z_n.dtype == np.float32 and np.isfinite(z_n).all()
    return z_n


def changed(corpus: Corpus, change: Any) -> Corpus:
    """With `change` of the features of a modality, (m, x_nd) -> x_nd."""
    splits = {
        split: [replace(c, features={m: change(m, x_nd) for m, x_nd in c.features.items()}) for c in talks]
        for split, talks in corpus.splits.items()
    }
    return replace(corpus, splits=splits)


seeds = st.integers(0, 2**32 - 1)
factors = st.tuples(st.floats(-30, 30), st.sampled_from((-1.0, 1.0))).map(lambda x: x[1] * 10.0 ** x[0])


@quickly
@given(seed=seeds, factor=factors, offset=st.floats(-30, 30), n=st.integers(2, 60))
def test_a_factor_changes_nothing(seed: int, factor: float, offset: float, n: int) -> None:
    x_n = (np.random.default_rng(seed).normal(size=n) + offset).astype(np.float32)
    if np.ptp(x_n) < 0.3:  # a few values next to each other: the offset takes more digits than the property allows
        return
    z_n = standardized(column(x_n))
    assert z_n.astype(np.float64).mean() == pytest.approx(0, abs=1e-6)
    assert z_n.astype(np.float64).std() == pytest.approx(1, rel=1e-6)
    other_n = standardized(column(x_n.astype(np.float64) * factor))
    np.testing.assert_allclose(np.sign(factor) * other_n, z_n, atol=1e-5 * (1 + np.abs(z_n).max()))


@quickly
@given(seed=seeds, shift=st.integers(-(2**23), 2**23), width=st.integers(10, 1000), factor=st.integers(-100, 100))
def test_a_shift_that_float32_holds_changes_nothing(seed: int, shift: int, width: int, factor: int) -> None:
    """Whole numbers up to 2^24 are exact, and so they are times a power of two."""
    x_n = np.random.default_rng(seed).integers(0, width, 30).astype(np.float64)
    x_n[:2] = 0, width
    shifted_n = (x_n + shift) * 2.0**factor
    assert (shifted_n.astype(np.float32) == shifted_n).all()
    np.testing.assert_allclose(standardized(column(shifted_n)), standardized(column(x_n)), atol=1e-5)


@quickly
@given(factor=factors, far=st.integers(3 * ROUNDINGS, 2**23), n=st.integers(20, 3000))
def test_one_utterance_that_differs_is_enough(factor: float, far: int, n: int) -> None:
    """By more than rounding, and be it by less than the rounding times the number of utterances."""
    x_n = np.full(n, factor)
    x_n[n // 2] *= 1 + far * 2.0**-23
    z_n = standardized(column(x_n)).astype(np.float64)
    assert z_n.std() == pytest.approx(1, rel=1e-5) and np.abs(z_n).argmax() == n // 2


@quickly
@given(
    value=st.one_of(st.just(0.0), factors),
    seed=seeds,
    elsewhere=st.floats(-1e30, 1e30, allow_subnormal=False),
    n=st.integers(1, 200),
)
def test_what_is_constant_up_to_rounding_becomes_0_everywhere(
    value: float, seed: int, elsewhere: float, n: int
) -> None:
    value_n = np.full(n, value, np.float32)
    direction_n = np.random.default_rng(seed).choice(np.float32([-np.inf, np.inf]), n)
    for x_n in (value_n, np.nextafter(value_n, direction_n) if value else value_n):
        corpus = column(x_n, np.array([elsewhere, value, 0.1, 7.0]))
        assert not standardized(corpus).any() and not standardized(corpus, "test").any()


def test_the_ends_of_float32() -> None:
    """The largest numbers, the smallest, and a test split in another unit."""
    x_n = np.random.default_rng(0).uniform(-1, 1, 40)
    z_n = standardized(column(x_n))
    np.testing.assert_allclose(standardized(column(3.4e38 * x_n)), z_n, atol=1e-5)
    np.testing.assert_allclose(standardized(column(1e-40 * x_n)), z_n, atol=1e-3)  # of 17 bits
    far = standardized(column(1e-30 * x_n, np.array([1e30, -1e30, 0.0])), "test")
    np.testing.assert_allclose(far, [FARTHEST, -FARTHEST, 0], atol=1)
    untouched = Standardizer.of(column(x_n), False).features({"a": np.float32([[3e38], [-1e9], [1e-40]])})
    np.testing.assert_array_equal(untouched["a"], np.float32([[3e38], [-1e9], [1e-40]]))


def test_moments_do_not_depend_on_how_the_utterances_are_divided() -> None:
    x_nd = (1e6 + np.random.default_rng(0).normal(size=(500, 3))).astype(np.float32)
    for parts in (1, 7, 500):
        moments = Moments.of(({"a": part_nd} for part_nd in np.array_split(x_nd, parts)), {"a": 3})
        exact_nd = x_nd.astype(np.float64)
        np.testing.assert_allclose(moments.mean["a"], exact_nd.mean(0), rtol=1e-14)
        np.testing.assert_allclose(moments.deviation("a"), exact_nd.std(0), rtol=1e-9)
        np.testing.assert_array_equal(moments.lowest["a"], x_nd.min(0))
        np.testing.assert_array_equal(moments.highest["a"], x_nd.max(0))


def test_a_modality_that_training_lacks_is_0_elsewhere() -> None:
    scaling = Standardizer.of(column(np.full(3, np.nan), np.array([5.0, np.nan])), True)
    np.testing.assert_array_equal(scaling.features({"a": np.float32([[5], [np.nan]])})["a"], [[0], [np.nan]])


def odd_units(m: str, x_nd: np.ndarray) -> np.ndarray:
    """Every feature in another unit, from 1e-30 to 1e30; powers of two, so that not one digit is lost."""
    return x_nd * np.float32(2.0) ** np.linspace(-99, 99, x_nd.shape[1]).round().astype(np.float32)


def with_constant(corpus: Corpus, values: Mapping[str, float]) -> Corpus:
    """With one more audio feature, of one value in each split."""
    splits = {}
    for split, talks in corpus.splits.items():
        more = [np.full((len(c), 1), values[split], np.float32) for c in talks]
        splits[split] = [
            replace(c, features={**c.features, "a": np.concatenate([c.features["a"], x_n1], axis=1)})
            for c, x_n1 in zip(talks, more, strict=True)
        ]
    return replace(corpus, splits=splits)


@pytest.mark.parametrize("change", [odd_units, lambda m, x_nd: x_nd * np.float32(1e-7), lambda m, x_nd: x_nd + 16])
def test_the_linear_reference_does_not_see_units(change: Any) -> None:
    corpus = simulate(SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert linear(changed(corpus, change), "tav") == pytest.approx(linear(corpus, "tav"), abs=1e-9)


@pytest.mark.parametrize("values", [(0.1, 0.2), (7.0, 7.1), (1e30, -1e30), (0.0, 1e-30), (0.1, 1e9)])
def test_the_linear_reference_does_not_see_what_is_constant_in_training(values: tuple[float, float]) -> None:
    corpus = simulate(SMALL)
    odd = with_constant(corpus, {"train": values[0], "validation": values[0], "test": values[1]})
    assert linear(odd, "tav") == linear(corpus, "tav")


def config_of(folder: Path, corpus: Corpus, **options: Any) -> Config:
    """Of a training on this corpus, as a folder of one's own conversations."""
    write_own(replace(corpus, name="own"), folder / "own")
    return tiny(
        dataset="conversations",
        data__dir=str(folder / "own"),
        data__prepared_dir=str(folder / "prepared"),
        parallel__devices=1,
        linear_reference="" if options.get("data__stream") else "ta",
        **options,
    )


def tiny_corpus() -> Corpus:
    return simulate(tiny().data.simulation)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_training_does_not_see_units(tmp_path: Path, stream: bool) -> None:
    """The same corpus in other units, with a feature that is constant in training: every number is the same."""
    plain = with_constant(tiny_corpus(), dict.fromkeys(SPLITS, 0.0))
    odd = changed(with_constant(tiny_corpus(), {"train": 0.1, "validation": 0.2, "test": 7e6}), odd_units)
    results = {}
    for name, corpus in {"plain": plain, "odd": odd}.items():
        config = config_of(tmp_path / name, corpus, data__stream=stream)
        results[name] = fit(config, tmp_path / name / "run")
    assert rows(tmp_path / "plain" / "run") == rows(tmp_path / "odd" / "run")
    assert results["plain"]["test"] == results["odd"]["test"]
    assert results["plain"]["diagnostics"] == results["odd"]["diagnostics"]


@pytest.mark.slow
def test_training_on_small_features_gives_the_scores_of_large_ones(tmp_path: Path) -> None:
    small = changed(tiny_corpus(), lambda m, x_nd: x_nd * np.float32(1e-7))
    for name, corpus in {"large": tiny_corpus(), "small": small}.items():
        fit(config_of(tmp_path / name, corpus), tmp_path / name / "run")
    for large, small_row in zip(rows(tmp_path / "large" / "run"), rows(tmp_path / "small" / "run"), strict=True):
        assert small_row["train"] == pytest.approx(large["train"], rel=1e-3)
        for split in ("validation", "test"):
            assert small_row[split] == pytest.approx(large[split], rel=1e-3)


def test_a_prepared_split_is_standardized_as_one_in_memory(tmp_path: Path) -> None:
    """Bit for bit, with features that are constant, sparse, small and large."""
    corpus = changed(with_constant(tiny_corpus(), {"train": 0.1, "validation": 0.2, "test": 7e6}), odd_units)
    config = config_of(tmp_path, corpus)
    streamed = load_corpus("conversations", dir=config.data.dir, prepared_dir=config.data.prepared_dir, stream=True)
    ours, theirs = Standardizer.of(streamed, True), Standardizer.of(corpus, True)
    for m in "tav":
        np.testing.assert_array_equal(ours.mean[m], theirs.mean[m])
        np.testing.assert_array_equal(ours.deviation[m], theirs.deviation[m])
    assert np.isinf(ours.deviation["a"]).tolist() == [False] * 6 + [True]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Of a corpus in odd units, around means that are large beside the deviations, with a constant feature."""
    folder = tmp_path_factory.mktemp("trained")
    corpus = with_constant(tiny_corpus(), {"train": 0.1, "validation": 0.2, "test": 7e6})
    corpus = changed(changed(corpus, lambda m, x_nd: x_nd + np.float32(3e4)), odd_units)
    fit(config_of(folder, corpus, train__epochs=1), folder / "run")
    return TrainedModel.load(folder / "run")


@pytest.mark.slow
def test_a_saved_model_and_its_export_standardize_alike(trained: TrainedModel) -> None:
    corpus = with_constant(tiny_corpus(), {"train": 0.1, "validation": 0.2, "test": -5e8})
    corpus = changed(changed(corpus, lambda m, x_nd: x_nd + np.float32(3e4)), odd_units)
    predictor = Predictor(trained)
    program = jax.jit(program_of(predictor))
    for c in corpus.splits["test"][:3]:
        (live,) = predictor.predict_features([c])
        features = {m: jnp.asarray(c.features[m])[None] for m in trained.modalities}
        probability, _ = program(features, jnp.asarray(c.speakers)[None], jnp.ones((1, len(c)), bool))
        np.testing.assert_allclose(probability[0], [[*p.probabilities.values()] for p in live], atol=1e-5)


@pytest.mark.parametrize(("decades", "offset"), [(30, 0.0), (30, 1e4), (36, 1.0)])
def test_an_export_standardizes_in_any_unit(decades: int, offset: float) -> None:
    """Up to the ends of float32, where the reciprocal of a deviation is so small that a device takes it for 0."""
    x_nd = np.random.default_rng(0).normal(size=(50, 41)) + offset
    x_nd = (x_nd * 10.0 ** np.linspace(-min(decades, 34), decades + 1.5 * (decades > 30), 41)).astype(np.float32)
    scaling = Standardizer.by(Moments.of([{"t": x_nd}], {"t": 41}))
    exported_nd = jax.jit(lambda x_bld: _standardized(x_bld, scaling, "t"))(jnp.asarray(x_nd)[None])[0]
    np.testing.assert_allclose(exported_nd, scaling.features({"t": x_nd})["t"], atol=1e-4)


@pytest.mark.slow
def test_a_model_of_an_earlier_version_predicts_as_it_did(trained: TrainedModel, tmp_path: Path) -> None:
    """With mean and deviation in float32, and a deviation of 1 for what is constant."""
    mean = {m: np.arange(d, dtype=np.float32) for m, d in trained.dims.items()}
    deviation = {m: np.linspace(0.5, 1, d, dtype=np.float32) for m, d in trained.dims.items()}
    replace(trained, standardizer=Standardizer(mean, deviation)).save(tmp_path / "model", "card")
    scaling = TrainedModel.load(tmp_path / "model").standardizer
    x = {m: np.random.default_rng(0).normal(size=(4, d)).astype(np.float32) for m, d in trained.dims.items()}
    for m, x_nd in scaling.features(x).items():
        np.testing.assert_allclose(x_nd, (x[m] - mean[m]) / deviation[m], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("small", [False, True])
def test_a_run_of_an_earlier_version_goes_on_or_is_refused(
    tmp_path: Path, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints hold float32, a deviation of 1 for what is constant, and, wrongly, for what is small."""
    corpus = with_constant(tiny_corpus(), {"train": 0.1, "validation": 0.2, "test": 7e6})
    if small:
        corpus = changed(corpus, lambda m, x_nd: np.concatenate([x_nd[:, :2] * np.float32(1e-8), x_nd[:, 2:]], axis=1))
    config = config_of(tmp_path, corpus)

    def earlier(self: Standardizer) -> dict[str, Any]:
        deviation = {m: np.where(x_d > 1e-6, x_d, 1.0) for m, x_d in self.deviation.items()}
        deviation = {m: np.where(np.isinf(x_d), 1.0, x_d).astype(np.float32) for m, x_d in deviation.items()}
        return {"mean": {m: x_d.astype(np.float32) for m, x_d in self.mean.items()}, "deviation": deviation}

    with monkeypatch.context() as patch:
        patch.setattr(Standardizer, "tree", earlier)
        patch.setattr(Standardizer, "differing", lambda *_: [])
        before = fit(config, tmp_path / "run")
    if small:
        with pytest.raises(
            InputError, match=r"standardized 6 of the features otherwise \(t0, t1, a0, \.\.\.\).*--workdir"
        ):
            fit(config, tmp_path / "run")
        return
    latest, _ = final_arrays(tmp_path / "run", config)
    assert latest["scaling"]["mean"]["t"].dtype == np.float64
    assert fit(config, tmp_path / "run")["test"] == before["test"]
    program = Trainer.of(config, load_configured(config))
    assert program.standardizer.differing(program.standardizer.tree()) == []


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_uncertainty_does_not_see_the_size_of_logits(trained: TrainedModel, scale: float) -> None:
    """Which label a draw is given depends on their proportions alone."""
    classifier = {name: np.float32(scale) * np.asarray(x) for name, x in trained.params["classifier"].items()}
    scaled = replace(trained, params={**trained.params, "classifier": classifier})
    talks = changed(with_constant(tiny_corpus(), dict.fromkeys(SPLITS, 0.0)), odd_units).splits["test"]
    found, expected = (
        [p.uncertainty for predictions in Predictor(model).predict_features(talks) for p in predictions]
        for model in (scaled, trained)
    )
    assert max(expected) > 0.02
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.slow
def test_a_model_without_noise_has_no_doubt(tmp_path: Path) -> None:
    config = config_of(tmp_path, tiny_corpus(), model__noise=False, train__epochs=1)
    fit(config, tmp_path / "run")
    model = TrainedModel.load(tmp_path / "run")
    close = {name: np.float32(1e-5) * np.asarray(x) for name, x in model.params["classifier"].items()}
    predictor = Predictor(replace(model, params={**model.params, "classifier": close}))
    talks = predictor.predict_features(tiny_corpus().splits["test"])
    assert {p.uncertainty for predictions in talks for p in predictions} == {0.0}


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_head_of_a_finetuning_does_not_see_the_length_of_vectors(scale: float) -> None:
    torch = pytest.importorskip("torch")
    from cmath_jax.extract.finetune import _head

    head = _head(16, 3, 0.0)
    x_nd = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(head(scale * x_nd).detach(), head(x_nd).detach(), atol=1e-5)


def test_a_map_of_one_place() -> None:
    assert not tsne(np.full((10, 4), 7.0, np.float32)).any()
