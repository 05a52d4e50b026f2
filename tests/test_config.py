"""Options: overriding, checking, and the way to JSON and back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import tiny

from cmath_jax.config import (
    Config,
    binding,
    differences,
    flat,
    from_dict,
    override,
    roles,
    source_of,
    structure,
    to_dict,
)
from cmath_jax.errors import InputError
from cmath_jax.io.roles import FREE, HYPER, PLACE, SOURCE, STRUCTURAL, Role
from cmath_jax.models.options import MODELS, options_of
from cmath_jax.sweeps.experiment import load


def test_overrides_take_values_and_their_spelling() -> None:
    config = override(Config(), {"model.width": "120", "optim.learning_rate": "1e-3", "loss.stop_teacher": "false"})
    assert (config.model.width, config.optim.learning_rate, config.loss.stop_teacher) == (120, 1e-3, False)
    same = override(Config(), {"model.width": 120, "optim.learning_rate": 1e-3, "loss.stop_teacher": False})
    assert config == same
    assert override(Config(), {"optim.learning_rate": 1}).optim.learning_rate == 1.0
    # Checked as a whole: neither of the two is right without the other.
    assert override(Config(), {"model.width": 66, "model.heads": 11}).model.width == 66
    assert override(Config(), {"data.simulation.train": "7"}).data.simulation.train == 7


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model.witdh", 1, "did you mean model.width?"),
        ("optimizer.learning_rate", 1, "unknown option 'optimizer.learning_rate'; did you mean optim.learning_rate?"),
        ("model.qqq", 1, "there are model.name, model.width"),
        ("model", 1, "model is a group of options"),
        ("model.width", "wide", "model.width='wide' is not of type int"),
        ("model.width", 1.5, "not of type int"),
        ("model.width", True, "not of type int"),
        ("loss.stop_teacher", 1, "not of type bool"),
        ("loss.stop_teacher", "maybe", "not of type bool"),
        ("data.file", 3, "not of type str"),
        ("model.width", 401, "model.width=401 is not a multiple of model.heads=10"),
        ("model.width", -10, "must be positive"),
        ("model.heads", 0, "must be positive"),
        ("model.dropout", 1.0, "not between 0 and 0.99"),
        ("model.kernel", 2, "odd"),
        ("model.inject", "both", "attention, block"),
        ("data.modalities", "tx", "letters t, a, v"),
        ("data.modalities", "", "letters t, a, v"),
        ("data.modalities", "tt", "letters t, a, v"),
        ("data.text_layer", 5, "0, 1, 2, 3, 4"),
        ("data.validation", "best", "auto, drawn, published12"),
        ("data.check_counts", "no", "error, warn"),
        ("data.simulation.train", 0, "train"),
        ("loss.gamma1", -1.0, "loss.gamma1=-1.0"),
        ("loss.gamma2", "nan", "loss.gamma2=nan"),
        ("optim.learning_rate", 0.0, "must be positive"),
        ("optim.learning_rate", "nan", "must be positive"),
        ("optim.learning_rate", "inf", "must be positive and finite"),
        ("optim.warmup_epochs", "inf", "0 or more"),
        ("optim.schedule", "step", "constant, linear, cosine"),
        ("optim.clip_norm", -1.0, "0 or more"),
        ("optim.average", 1.0, "not in [0, 1)"),
        ("train.epochs", 0, "must be positive"),
        ("train.batch_size", 0, "must be positive"),
        ("train.patience", -1, "not be negative"),
        ("parallel.engine", "tpu", "auto, jit, pmap"),
        ("parallel.devices", -1, "not be negative"),
        ("precision", "float16", "float32, bfloat16"),
        ("seeds", 0, "must be positive"),
        ("linear_reference", "x", "other letters"),
        ("optim.warmup_epochs", 50, "not less than train.epochs=50"),
    ],
)
def test_wrong_options_are_refused_by_name(name: str, value: Any, words: str) -> None:
    with pytest.raises(InputError) as error:
        override(Config(), {name: value})
    assert words in str(error.value)


def test_a_decay_of_policies_alone_is_still_read() -> None:
    """A finished run of an earlier version may have it, and its model predicts; only training refuses it."""
    values = to_dict(Config())
    values["optim"]["policy_decay"] = 5e-4
    assert from_dict(values, trained=True).optim.policy_decay == 5e-4


def test_a_released_recipe_gives_a_rate_with_each_decay_of_policies() -> None:
    for dataset in ("meld", "iemocap"):
        config = override(Config(), {"model.name": "adaign", "dataset": dataset, "recipe": "released"})
        assert config.optim.policy_decay == 5e-4
        assert config.optim.policy_rate * config.optim.learning_rate == pytest.approx(2e-2)


def test_an_experiment_takes_fewer_modalities() -> None:
    meld = load(Path(__file__).parents[1] / "experiments" / "meld.py").config
    assert override(meld, {"data.modalities": "t", "model.width": "200", "seeds": "5"}).data.modalities == "t"


def test_through_json_and_back(tmp_path: Path) -> None:
    config = tiny(loss__gamma1=0.25, data__modalities="tv")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    assert load(path).config == config
    assert from_dict(to_dict(config)) == config
    names = flat(to_dict(config))
    assert names["model.width"] == 8
    assert names["data.simulation.train"] == 11
    assert override(Config(), names) == config


MAKES = """from cmath_jax.config import Config; from cmath_jax.models.options.cmath import CMATHOptions


def get_config():
    return Config(model={})
"""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gone.py", None, "no such file"),
        ("broken.py", "def get_config(:\n", "line 1"),
        ("empty.py", "x = 1\n", "get_config"),
        ("other.py", "def get_config():\n    return 3\n", "returned int"),
        ("typo.py", MAKES.format("CMATHOptions(widht=3)"), "line 5: TypeError"),
        ("value.py", MAKES.format("CMATHOptions(width=7)"), "line 5: model.width=7 is not a multiple"),
        ("type.py", MAKES.format("CMATHOptions(width='400')"), "line 5: TypeError"),
        ("float.py", MAKES.format("CMATHOptions(width=400.0)"), "model.width=400.0 is not of type int"),
        ("broken.json", "{", "not JSON"),
        ("list.json", "[1]", "no config"),
        ("unknown.json", '{"modle": {}}', "did you mean model?"),
    ],
)
def test_files_that_hold_no_config(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        load(tmp_path / name)
    assert words in str(error.value)
    assert name in str(error.value) or "modle" in str(error.value)


def test_a_device_is_no_experiment() -> None:
    with pytest.raises(InputError, match="--config /dev/null: it is a device or a pipe"):
        load("/dev/null")


# Roles: what else is at its default is changed by one; a process of a group of processes is one of several.
OTHER: dict[str, Any] = {
    "dataset": "meld",
    "precision": "bfloat16",
    "profile": "steps",
    "linear_reference": "t",
    "data.feature_set": "sdt",
    "data.modalities": "t",
    "data.validation": "drawn",
    "data.check_counts": "warn",
    "model.name": "sdt",
    "model.gates": "identity",
    "model.edge_attention": "position",
    "model.width": 500,
    "model.heads": 5,
    "model.kernel": 3,
    "model.inject": "block",
    "model.norm": "pre",
    "optim.schedule": "linear",
    "parallel.engine": "jit",
    "parallel.distributed": True,
    "parallel.coordinator": "b:1",
}
ONE_OF_TWO = {
    "parallel.distributed": True,
    "parallel.coordinator": "a:1",
    "parallel.num_processes": 2,
    "parallel.process_id": 0,
}
MADE_UP = {name for name in roles() if name.startswith("data.simulation.")}
LYING = {f"data.{name}" for name in ("features_dir", "dir", "feature_set", "file", "prepared_dir", "stream")}
DATA = {"dataset", *(f"data.{name}" for name in ("text_layer", "validation", "validation_seed", "check_counts"))}
RUNNING = {name for name in roles() if name.startswith("parallel.")}
NUMBERS_IN_THE_STEP = {name for name in roles() if name.startswith("loss.")} | {"optim.learning_rate", "model.dropout"}


def changed(name: str) -> tuple[Config, Config]:
    """Two configs that differ in one option alone."""
    beside = ONE_OF_TWO if name in ONE_OF_TWO and name != "parallel.distributed" else {}
    model = next((m for m, kind in MODELS.items() if name.removeprefix("model.") in options_of(kind)), "cmath")
    config = override(Config(), {"model.name": model, **beside})
    value = flat(to_dict(config))[name]
    if name in OTHER:
        other = OTHER[name]
    elif isinstance(value, bool):
        other = not value
    elif isinstance(value, str):
        other = f"{value}x"
    else:
        other = value + 1 if isinstance(value, int) else value / 2 or 0.25
    # A recipe would bring others along.
    return config, replace(config, recipe=other) if name == "recipe" else override(config, {name: other})


@pytest.mark.parametrize("name", roles())
def test_what_an_option_decides_follows_from_its_role(name: str) -> None:
    role = roles()[name]
    assert role in (FREE, HYPER, STRUCTURAL, SOURCE, PLACE) or name in {
        *MADE_UP,
        *RUNNING,
        *("seeds", "linear_reference", "model.dropout"),
    }
    one, other = changed(name)
    differing = differences(to_dict(one), to_dict(other))
    assert len(differing) == bool(role & (Role.NUMBERS | Role.SIMULATED))
    assert (binding(to_dict(one)) != binding(to_dict(other))) == bool(differing)
    assert bool(differences(to_dict(one), to_dict(other), Role.RESULT)) == (bool(differing) or Role.RESULT in role)
    assert (structure(one) != structure(other)) == bool(role & (Role.PROGRAM | Role.CORPUS))
    assert (source_of(one) != source_of(other)) == (Role.CORPUS in role)


def test_which_options_have_which_role() -> None:
    """Without a look at the code that states them."""

    def those_with(role: Role) -> set[str]:
        return {name for name, found in roles().items() if found & role}

    free = {"experiment", "recipe", "seeds", "profile", "linear_reference", *RUNNING, *LYING}
    assert those_with(Role.NUMBERS) == {*roles()} - free - MADE_UP
    assert those_with(Role.SIMULATED) == MADE_UP
    assert those_with(Role.RESULT) == {"seeds", "linear_reference"}
    assert those_with(Role.CORPUS) == MADE_UP | LYING | DATA
    assert those_with(Role.SWITCH) == {"model.dropout"}
    in_common = those_with(Role.PROGRAM) | those_with(Role.CORPUS)
    shared = NUMBERS_IN_THE_STEP | {"experiment", "recipe", "seeds", "profile", "linear_reference"}
    assert in_common == {*roles()} - shared


def test_whether_there_is_dropout_is_structural() -> None:
    rates = [structure(override(Config(), {"model.dropout": rate})) for rate in (0.0, 0.1, 0.9)]
    assert rates[0] != rates[1] == rates[2]


def test_the_simulation_decides_only_about_the_simulated() -> None:
    of_meld = {"dataset": "meld", "data.simulation.train": 7}
    assert differences(to_dict(override(Config(), of_meld)), to_dict(override(Config(), {"dataset": "meld"}))) == []
    of_none = {"data.simulation.train": 7}
    assert differences(to_dict(override(Config(), of_none)), to_dict(Config())) == [
        "data.simulation.train: 7 there, 240 now"
    ]


def test_an_option_that_is_not_there_counts_as_its_default() -> None:
    older = to_dict(Config())
    del older["model"]["causal"], older["optim"]
    assert differences(older, to_dict(Config())) == []
    assert differences(older, to_dict(override(Config(), {"optim.average": 0.5}))) == [
        "optim.average: 0.0 there, 0.5 now"
    ]
    older["model"]["gone"] = 1
    assert differences(older, to_dict(Config())) == ["model.gone: 1 there, None now"]
