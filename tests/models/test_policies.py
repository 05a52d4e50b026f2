"""The policies of AdaIGN: their losses, places, noise and training."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_model import random_params, small_model
from samples import conversations, final_arrays, losses_of, outputs_of, pack, rows, tiny, unpack
from stopping import stop_after

from cmath_jax.config import Config, LossConfig, ParallelConfig
from cmath_jax.errors import Terminated
from cmath_jax.models.baselines.policies import PolicyTables
from cmath_jax.models.layers import Context
from cmath_jax.training import fit as fitting
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.trainer import Trainer


def losses_by_hand(tables: Mapping[str, np.ndarray], mix: np.ndarray) -> dict[str, float]:
    """Of one conversation, by the equations of the released code for a batch of one; tables [n, 2] by name."""

    def entropy(x_nc: np.ndarray, choice: int) -> float:
        return -float((x_nc - np.log(np.exp(x_nc).sum(1, keepdims=True)))[:, choice].mean())

    def distance(x: str, y: str) -> float:
        n = len(tables[x])
        return float(((np.arange(n) + 1) / n * np.abs(tables[x] - tables[y])[:, 0]).sum())

    important = ("sample_t", "context_t", "context_a", "context_v")
    others = ("sample_a", "sample_v")
    alike = [("sample_t", "sample_a"), ("sample_t", "sample_v")]
    alike += [("context_t", "context_a"), ("context_t", "context_v"), ("context_a", "context_v")]
    return {
        "importance": sum(entropy(tables[x], 0) for x in important) + sum(distance(*pair) for pair in alike),
        "not_importance": sum(entropy(tables[x], 1) for x in important),
        "hamming": sum(entropy(tables[x], 0) for x in others) + distance(*others) + entropy(mix[None], 0),
        "sparsity": sum(entropy(tables[x], 1) for x in others) + entropy(mix[None], 1),
    }


def test_losses_of_policies() -> None:
    """Of a conversation as by hand; of several, their mean by utterances, in any rows."""
    weights = {"importance": 0.9, "not_importance": 0.2, "hamming": 0.6, "sparsity": 0.1}
    model = small_model("adaign", layers=1, party_text=0.0, party_audio=0.0, party_visual=0.0)
    talks = conversations((4, 6))
    batch = pack(talks, ((0, 1),), 12)
    params = random_params(model, batch)
    tables = params["policies"]
    expected = dict.fromkeys(weights, 0.0)
    for n in (4, 6):
        by_name = {
            f"{kind}_{m}": np.asarray(tables[f"{kind}_policy"], np.float64)[i, -n:]
            for kind in ("sample", "context")
            for i, m in enumerate("tav")
        }
        for name, value in losses_by_hand(by_name, np.asarray(tables["mix_policy"], np.float64)).items():
            expected[name] += n * value / 10
    for layout in (batch, pack(talks, ((1,), (), (0,)), 7)):
        terms = outputs_of(model, params, layout).terms
        assert set(terms) == set(weights)
        for name, term in terms.items():
            found = term.value_rl.sum() / term.count_rl.sum()
            np.testing.assert_allclose(found, weights[name] * expected[name], rtol=1e-5)


def test_a_loss_without_weight_is_left_out() -> None:
    model = small_model("adaign", layers=1, hamming=0.0, sparsity=0.0)
    batch = pack(conversations((2,)), ((0,),), 2)
    assert set(outputs_of(model, random_params(model, batch), batch).terms) == {"importance", "not_importance"}


def test_policies_go_by_the_place_from_the_end() -> None:
    """The first rows are those of the utterances farthest from it; what lies farther shares the first one."""
    model = small_model("adaign", "a", layers=1, policy_rows=3, party_audio=0.0)
    talks = conversations((5, 2))
    batch = pack(talks, ((1, 0),), 7)
    params = random_params(model, batch)

    def reached(row: int) -> list[bool]:
        """Returns for each utterance whether the policy of samples in this row has to do with it."""
        changed = jax.tree.map(jnp.copy, params)
        changed["policies"]["sample_policy"] = params["policies"]["sample_policy"].at[0, row, 0].add(3.0)
        before, after = (unpack(outputs_of(model, each, batch).mean_rld, batch) for each in (params, changed))
        return [not np.allclose(x, y) for x, y in zip(before, after, strict=True)]

    # A node hears those before it: from the first utterance on that the row belongs to.
    assert reached(2) == [False] * 4 + [True] + [False, True]
    assert reached(1) == [False] * 3 + [True] * 2 + [True] * 2
    assert reached(0) == [True] * 5 + [False] * 2


def test_noise_of_policies_is_that_of_training_alone() -> None:
    model = small_model("adaign", "ta", layers=1)
    batch = pack(conversations((4, 3)), ((0, 1),), 8, "ta")
    params = random_params(model, batch)
    trained, evaluated = (outputs_of(model, params, batch, train).mean_rld for train in (True, False))
    assert not np.allclose(trained, evaluated)
    # A policy that is certain has none: the logits are far apart.
    sure = {**params, "policies": jax.tree.map(lambda x: x.at[..., 0].add(1e4), params["policies"])}
    trained, evaluated = (outputs_of(model, sure, batch, train).mean_rld for train in (True, False))
    np.testing.assert_array_equal(trained, evaluated)


def test_without_a_use_text_has_no_policy_of_samples() -> None:
    batch = pack(conversations((3,)), ((0,),), 3)
    unused = {"party_text": 0.0, "importance": 0.0, "not_importance": 0.0}
    for options, tables in (({}, 3), (unused, 2), ({**unused, "importance": 0.5}, 3), ({**unused, "party_text": 1}, 3)):
        params = random_params(small_model("adaign", layers=1, **options), batch)
        assert len(params["policies"]["sample_policy"]) == tables


def test_the_gradient_of_the_policies_reaches_them_with_noise() -> None:
    model = small_model("adaign", "ta", layers=1, importance=0.0, not_importance=0.0, hamming=0.0, sparsity=0.0)
    batch = pack(conversations((4, 3)), ((0, 1),), 8, "ta")
    params = random_params(model, batch)

    @jax.jit
    @jax.grad
    def gradient_of(params: Any) -> jax.Array:
        rngs = {"dropout": jax.random.key(1), "noise": jax.random.key(2)}
        return losses_of(model.apply({"params": params}, batch, train=True, rngs=rngs), batch, LossConfig())["total"]

    for name, gradient in gradient_of(params)["policies"].items():
        assert float(jnp.abs(gradient).max()) > 1e-7, name


def tables_of(temperature: float, decay: float, absolute: bool = False) -> PolicyTables:
    return PolicyTables(("a",), ("t", "a"), 6, temperature, decay, absolute, None)


@pytest.mark.parametrize("train", [False, True])
def test_the_temperature_falls_by_the_epochs_of_policies(train: bool) -> None:
    context = Context.of(pack(conversations((4, 3)), ((0, 1),), 8, "ta"), "ta", dropout=0.0, train=train, causal=False)
    rngs = {"noise": jax.random.key(2)}
    params = tables_of(1.25, 1.0).init({"params": jax.random.key(0), **rngs}, context)["params"]
    counted = {**params, "policy_epochs": jnp.float32(2)}
    chex.assert_trees_all_close(
        tables_of(5.0, 0.5).apply({"params": counted}, context, rngs=rngs),
        tables_of(1.25, 1.0).apply({"params": params}, context, rngs=rngs),
        rtol=1e-6,
    )


def test_logits_may_begin_at_absolute_values() -> None:
    context = Context.of(pack(conversations((4,)), ((0,),), 4, "ta"), "ta", dropout=0.0, train=False, causal=False)
    signed, absolute = (tables_of(5.0, 1.0, each).init(jax.random.key(0), context)["params"] for each in (False, True))
    chex.assert_trees_all_equal(jax.tree.map(jnp.abs, signed), absolute)
    assert min(float(x.min()) for x in jax.tree.leaves(signed)) < 0


def alternating(**options: Any) -> Config:
    """Training of a small model by audio and text, in epochs of weights and of policies."""
    small = {"graph_width": 4, "layers": 1, "text_width": 4, "policy_rows": 6}
    small |= {"temperature_decay": 0.5}
    small |= {"party_text": 0.0, "party_audio": 0.0, "party_visual": 0.0}
    settings = {f"model__{name}": value for name, value in small.items()}
    return tiny(**{"model__name": "adaign", **settings, "optim__policy_rate": 5.0, "parallel__devices": 1, **options})


@pytest.mark.slow
def test_alternation_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of an epoch of policies; and beside another seed, on two devices, but for rounding."""
    config = alternating(train__epochs=3)
    fitting.fit(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 6)  # of four steps an epoch
        with pytest.raises(Terminated):
            fitting.fit(config, tmp_path / "stopped")
    fitting.fit(config, tmp_path / "stopped")
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")
    chex.assert_trees_all_equal(final_arrays(tmp_path / "stopped", config), final_arrays(tmp_path / "whole", config))
    fitting.fit(replace(config, seeds=2, parallel=ParallelConfig(devices=2, population=2)), tmp_path / "beside")
    beside = [row for row in rows(tmp_path / "beside") if row["seed"] == 0]
    for expected, found in zip(rows(tmp_path / "whole"), beside, strict=True):
        assert found["train"]["loss"] == pytest.approx(expected["train"]["loss"], rel=1e-3)


@pytest.mark.slow
def test_weights_and_policies_are_trained_in_alternation() -> None:
    config = alternating()
    trainer = Trainer.of(config, load_configured(config))
    state, hyper_params = trainer.fresh_states([0]), trainer.hyper_params([config])
    kept = [jax.device_get(state.params)]
    for epoch in range(3):
        for steps, plan in trainer.plans([0], [epoch], 0):
            state, _ = trainer.advance(state, plan, hyper_params, 0, len(steps))
        kept.append(jax.device_get(state.params))
    for epoch, (before, after) in enumerate(pairwise(kept)):
        has_moved = jax.tree.map(lambda x, y: bool(np.any(x != y)), before, after)
        for path, moved in jax.tree_util.tree_leaves_with_path(has_moved):
            is_policy = "policy" in jax.tree_util.keystr(path)
            assert moved == (is_policy == (epoch == 1)), (epoch, path)
    assert [params["policies"]["policy_epochs"].item() for params in kept] == [0, 0, 1, 1]
