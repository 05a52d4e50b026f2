"""Every model goes through the one step: resumed, on many devices, beside other trials, predicting, exported."""

from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from every_model import SMALL, each_model
from samples import final_arrays, rows, tiny
from stopping import stop_after

from cmath_jax.config import Config
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import Terminated
from cmath_jax.prediction.export import export
from cmath_jax.prediction.predictor import Predictor
from cmath_jax.training import fit as fitting


def config_of(name: str, **options: Any) -> Config:
    """Returns a training of two epochs, eight steps, of all modalities; options with __ for the dot."""
    small = {f"model__{option}": value for option, value in SMALL[name].items()}
    settings = {"parallel__devices": 1, "train__epochs": 2, "data__modalities": "tav", "optim__average": 0.9}
    return tiny(model__name=name, **{**small, "model__dropout": 0.2, **settings, **options})


@pytest.mark.slow
@each_model
def test_what_was_stopped_goes_on_as_if_nothing_had_happened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, stopped in the middle of an epoch; then it predicts, and is exported."""
    config = config_of(name)
    result = fitting.fit(config, tmp_path / "whole")
    assert len(result["test"]["weighted_f1"]["values"]) == 1
    for steps in (3, 2):
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(Terminated):
                fitting.fit(config, tmp_path / "stopped")
    fitting.fit(config, tmp_path / "stopped")
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")
    chex.assert_trees_all_equal(final_arrays(tmp_path / "stopped", config), final_arrays(tmp_path / "whole", config))

    # Conversations alone say what they said in the test, from the folder and as an exported program.
    talks = list(load_corpus("simulated", simulation=config.data.simulation).splits["test"])
    predictor = Predictor.load(tmp_path / "whole")
    together = [[*p.probabilities.values()] for found in predictor.predict_features(talks) for p in found]
    alone = [[*p.probabilities.values()] for talk in talks for p in predictor.predict_features([talk])[0]]
    np.testing.assert_allclose(alone, together, atol=1e-5)
    export(predictor, tmp_path / "exported")
    program = jax.export.deserialize(bytearray((tmp_path / "exported" / "model.stablehlo").read_bytes()))
    talk = talks[0]
    features = {m: talk.features[m][None] for m in predictor.modalities}
    probability, _ = program.call(features, talk.speakers[None], np.ones((1, len(talk)), bool))
    np.testing.assert_allclose(probability[0], together[: len(talk)], atol=1e-4)


@pytest.mark.slow
@each_model
def test_devices_and_neighbours_change_nothing_but_rounding(name: str, tmp_path: Path) -> None:
    """On one device, on two, by pmap, and two seeds in one program."""
    variants = {
        "one": {},
        "two": {"parallel__devices": 2},
        "pmap": {"parallel__devices": 2, "parallel__engine": "pmap"},
        "population": {"seeds": 2, "parallel__population": 2},
    }
    losses = {}
    for variant, options in variants.items():
        fitting.fit(config_of(name, train__epochs=1, **options), tmp_path / variant)
        losses[variant] = rows(tmp_path / variant)[0]["train"]
    assert len(rows(tmp_path / "population")) == 2
    for variant in ("two", "pmap", "population"):
        for term, value in losses["one"].items():
            assert losses[variant][term] == pytest.approx(value, rel=2e-3, abs=1e-5), (variant, term)
