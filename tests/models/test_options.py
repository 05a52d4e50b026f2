"""Each model has its own options, chosen by `model.name`; what was stored before they had still loads."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from samples import tiny

from cmath_jax.config import Config, binding, differences, flat, from_dict, override, to_dict
from cmath_jax.errors import InputError
from cmath_jax.io.roles import STRUCTURAL, role_of
from cmath_jax.models.options import MODELS, recipe_options
from cmath_jax.models.options.base import TransformerOptions
from cmath_jax.models.options.cmath import CMATHOptions
from cmath_jax.models.options.sdt import SDTOptions
from cmath_jax.models.registry import make_model
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.training.fit import fit

# As they were written when every config had the options of CMATH.
OLD_CMATH = """{"name": "cmath", "width": 60, "heads": 6, "dropout": 0.2, "kernel": 3, "reconstruction": false,
    "cross_attention": true, "inject": "block", "noise": true, "causal": true}"""
OLD_SDT = """{"name": "sdt", "width": 64, "heads": 8, "dropout": 0.2, "kernel": 1, "reconstruction": true,
    "cross_attention": true, "inject": "attention", "noise": true, "causal": false}"""
OLD = """{"experiment": "cmath", "dataset": "simulated", "seeds": 1, "precision": "float32", "profile": "",
  "linear_reference": "", "data": {"features_dir": "data", "dir": "", "feature_set": "auto", "file": "",
    "text_layer": 1, "modalities": "tav", "standardize": true, "validation": "auto", "validation_seed": 0,
    "check_counts": "error", "prepared_dir": "", "stream": false, "simulation": {"train": 240, "validation": 60,
      "test": 120, "mean_length": 10.0, "max_length": 33, "max_speakers": 6, "classes": 7, "text_dim": 96,
      "audio_dim": 48,
      "visual_dim": 32, "text_strength": 2.3, "audio_strength": 1.5, "visual_strength": 1.0, "confusion": 0.9,
      "joint_strength": 4.0, "echo_strength": 5.0, "speaker_strength": 0.5, "inertia": 0.15, "contagion": 0.12,
      "seed": 0}},
  "model": MODEL,
  "loss": {"gamma1": 1.0, "gamma2": 1.2, "reconstruction": 1.0, "stop_teacher": true, "temperature": 1.0,
    "class_weights": false},
  "optim": {"learning_rate": 0.0002, "schedule": "constant", "warmup_epochs": 0.0, "clip_norm": 0.0,
    "weight_decay": 0.0, "average": 0.0},
  "train": {"epochs": 50, "batch_size": 4, "patience": 10},
  "parallel": {"engine": "auto", "devices": 0, "population": 0, "distributed": null, "coordinator": "",
    "num_processes": 0, "process_id": -1}}"""
THEN = {
    OLD_CMATH: CMATHOptions(
        width=60, heads=6, dropout=0.2, kernel=3, reconstruction=False, inject="block", causal=True
    ),
    OLD_SDT: SDTOptions(width=64, heads=8, dropout=0.2),
}


def old(model: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(OLD.replace("MODEL", model))
    return values


@pytest.mark.parametrize("model", THEN)
def test_what_was_stored_before_models_had_their_own_options(model: str) -> None:
    config = from_dict(old(model))
    assert config == Config(model=THEN[model])
    # The folder and the checkpoints of an old run are those of the new one.
    assert differences(old(model), to_dict(config)) == []
    assert differences(to_dict(config), old(model)) == []
    assert binding(old(model)) == binding(to_dict(config))


def test_an_option_without_effect_is_refused_in_a_stored_config() -> None:
    values = old(OLD_SDT.replace('"kernel": 1', '"kernel": 3'))
    with pytest.raises(InputError) as error:
        from_dict(values)
    assert str(error.value) == (
        "model.kernel=3 has no effect: it is an option of cmath, not of sdt; delete it, or set it to 1"
    )
    # It never changed a number: the run goes on.
    assert differences(values, to_dict(Config(model=THEN[OLD_SDT]))) == []


@pytest.mark.slow
def test_an_old_run_of_a_baseline_goes_on_and_predicts(tmp_path: Path) -> None:
    config = tiny(model__name="sdt", train__epochs=1, parallel__devices=1)
    result = fit(config, tmp_path)
    foreign = {name: x for name, x in json.loads(OLD_SDT).items() if name not in vars(config.model)}
    for path in (tmp_path / "config.json", tmp_path / "model" / "model.json"):
        record = json.loads(path.read_text())
        model = record["config"]["model"] if "config" in record else record["model"]
        model |= foreign
        if path.name == "model.json":
            model["kernel"] = 3  # which never had an effect: the model is what it was
        path.write_text(json.dumps(record))
    assert TrainedModel.load(tmp_path).config == config
    again = fit(config, tmp_path)
    assert again["test"] == result["test"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_chooses_the_options(order: int) -> None:
    """In any order; those that both models have keep their values, all others are at their defaults."""
    start = Config(model=CMATHOptions(width=64, dropout=0.1, heads=4, causal=True, kernel=3))
    values = dict([("model.name", "sdt"), ("model.heads", "8")][::order])
    config = override(start, values)
    assert config.model == SDTOptions(width=64, dropout=0.1, heads=8, causal=True)
    assert from_dict(to_dict(config)) == config
    values = dict(
        [("model.name", "cmath"), ("model.inject", "block"), ("model.width", 66), ("model.heads", 11)][::order]
    )
    config = override(config, values)
    assert config.model == CMATHOptions(width=66, dropout=0.1, heads=11, causal=True, inject="block")


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        (SDTOptions(), {"model.kernel": 1}, "model.kernel is an option of cmath, not of sdt, which has model.name, "),
        (CMATHOptions(), {"model.kernel": "3", "model.name": "sdt"}, "model.kernel is an option of cmath, not of sdt"),
        (CMATHOptions(), {"model.name": "sdt", "model.kernel": "3"}, "model.kernel is an option of cmath, not of sdt"),
        (
            CMATHOptions(),
            {"model.name": "sdt", "model.q": 3},
            "unknown option 'model.q'; there are model.name, model.w",
        ),
        (SDTOptions(), {"model.widht": 3}, "did you mean model.width?"),
        (CMATHOptions(), {"model.name": "std"}, f"'std' is not one of {', '.join(MODELS)}; did you mean sdt?"),
        (CMATHOptions(), {"model.name": 3}, f"model.name=3 is not one of {', '.join(MODELS)}"),
        (SDTOptions(), {"model.width": 81}, "model.width=81 is not a multiple of model.heads=10"),
    ],
)
def test_an_option_that_the_model_lacks_is_refused(model: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        override(Config(model=model), values)
    assert words in str(error.value)


@pytest.mark.parametrize("name", MODELS)
def test_the_options_are_the_attributes_of_the_module(name: str) -> None:
    kind = MODELS[name]
    heads = {"heads": 2} if issubclass(kind, TransformerOptions) else {}
    options = kind(width=20, dropout=0.3, causal=not kind.bidirectional, **heads)
    assert options.name == name
    corpus = type("Corpus", (), {"classes": ("a", "b"), "speakers": 3})()
    made = make_model(options, corpus, "ta", "bfloat16")
    assert (made.classes, made.speakers, made.modalities, made.dtype) == (2, 3, "ta", jnp.dtype("bfloat16"))  # type: ignore[attr-defined]
    for each in fields(options):
        if each.name != "name":
            assert getattr(made, each.name) == getattr(options, each.name)


def test_an_option_has_one_role_in_all_models() -> None:
    named: dict[str, set[Any]] = {}
    for kind in MODELS.values():
        for each in fields(kind):
            named.setdefault(each.name, set()).add(role_of(each, STRUCTURAL))
    assert {name for name, found in named.items() if len(found) > 1} == set()


def test_the_options_are_there_without_jax() -> None:
    code = "import sys, cmath_jax.config, cmath_jax.models.options; print({'jax', 'flax', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout == "{'numpy'}\n"


@pytest.mark.parametrize("name", MODELS)
def test_every_recipe_can_be_chosen_and_says_all_sizes(name: str) -> None:
    """A recipe sets each of its options, whatever was set before. `shared` leaves the rest to the config, and so does
    `paper`, which has what is published and no more.
    """
    for recipe, by_dataset in MODELS[name].recipes.items():
        for dataset in [each for each in by_dataset if each] or ["meld", "iemocap"]:
            config = override(Config(), {"model.name": name, "recipe": recipe, "dataset": dataset})
            options = recipe_options(recipe, name, dataset)
            found = flat(to_dict(config))
            assert {each: found[each] for each in options} == options
            assert config.recipe == recipe
            if recipe not in ("shared", "paper"):
                training = {"optim.learning_rate", "optim.weight_decay", "train.batch_size", "train.epochs"}
                assert training | {"model.width", "model.dropout"} <= {*options}
    assert "shared" in MODELS[name].recipes


@pytest.mark.parametrize(
    ("dataset", "width", "rate", "batch", "gamma2"), [("meld", 400, 2e-4, 4, 1.2), ("iemocap", 500, 3e-3, 16, 1.8)]
)
def test_the_settings_of_the_paper(dataset: str, width: int, rate: float, batch: int, gamma2: float) -> None:
    config = override(Config(), {"dataset": dataset, "recipe": "paper"})
    assert (config.model.width, config.optim.learning_rate, config.train.batch_size) == (width, rate, batch)
    assert (config.loss.gamma1, config.loss.gamma2) == (1.0, gamma2)
    assert config.model.norm == "post"  # as the equations say
    assert override(Config(), {"dataset": dataset, "recipe": "tuned"}).model.norm == "pre"


def test_an_option_beside_a_recipe_counts() -> None:
    config = override(Config(), {"model.name": "sdt", "recipe": "released", "dataset": "meld", "model.width": 64})
    assert (config.model.width, config.optim.learning_rate, config.train.batch_size) == (64, 5e-6, 8)
    # What was stored has all options, and is not changed by a recipe of a later version.
    values = to_dict(config)
    values["optim"]["learning_rate"] = 0.5
    assert from_dict(values).optim.learning_rate == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.name": "sdt", "recipe": "realesed"}, "recipe='realesed' is not one of"),
        ({"recipe": "released"}, "recipe='released' is not one of"),
        (
            {"model.name": "sdt", "recipe": "released", "dataset": "simulated"},
            "recipe=released: sdt has one for dataset=meld and dataset=iemocap, not for dataset=simulated; ",
        ),
        (
            {"recipe": "tuned"},
            "recipe=tuned: cmath has one for dataset=meld and dataset=iemocap, not for dataset=simul",
        ),
    ],
)
def test_recipes_that_there_are_not(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        override(Config(), values)
    assert str(error.value).startswith(message)


def test_every_model_has_a_title_of_its_own() -> None:
    assert len({kind.title for kind in MODELS.values()}) == len(MODELS)
