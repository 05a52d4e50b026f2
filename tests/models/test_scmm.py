"""SCMM-style against a second computation of its equations, and what is special to it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from every_model import random_params, small_model
from samples import conversations, outputs_of, pack
from second import attend, check, heard_by, inputs, layers_of, post_norm, present_in, self_attention, told_by

from cmath_jax.data.corpus import Conversation

WINDOW = 2


def select(paths: Sequence[np.ndarray], query_d: np.ndarray) -> np.ndarray:
    """The sum of the paths by the softmax of their scores, for each utterance."""
    selected = []
    for path_kd in np.stack(paths, axis=1):
        selected.append(reference.softmax(path_kd @ query_d / math.sqrt(len(query_d))) @ path_kd)
    return np.array(selected)


def tokens(params: Any, asking_md: np.ndarray, answering_md: np.ndarray, told: Sequence[int], heads: int) -> np.ndarray:
    """Attention of modalities to modalities of one utterance."""
    width = asking_md.shape[1]
    value_md = answering_md @ params["value"]["kernel"].reshape(width, -1)
    heard = [told] * len(asking_md)
    if len(answering_md) == 1:
        mixed_md = np.repeat(value_md, len(asking_md), axis=0)
    else:
        query_md = asking_md @ params["query"]["kernel"].reshape(width, -1)
        key_md = answering_md @ params["key"]["kernel"].reshape(width, -1)
        mixed_md = attend(query_md, lambda _, k: key_md[k], lambda _, k: value_md[k], heard, heads)
    return reference.dense(mixed_md, params["output"])


def interaction(params: Any, c_md: np.ndarray, told: Sequence[int], heads: int) -> list[np.ndarray]:
    """The paths of one utterance, of which the modalities `told` are not 0."""
    if len(c_md) == 1:
        return [reference.dense(c_md[0], params["full"])]
    heard_md = tokens(params["full_attention"], c_md, c_md, told, heads)
    all_md = [
        reference.layer_norm(c_md[i] + heard_md[i], layers_of(params["full_norm"], i)) * (i in told)
        for i in range(len(c_md))
    ]
    products = [c_md[i] * c_md[j] for i, j in itertools.combinations(range(len(c_md)), 2)]
    others = [i - 1 for i in told if i > 0]
    return [
        reference.dense(np.concatenate(all_md), params["full"]),
        reference.dense(np.concatenate([*products, *c_md]), params["partial"]),
        c_md[0] + tokens(params["biased_attention"], c_md[:1], c_md[1:], others, heads)[0],
    ]


def forward(params: Any, talk: Conversation, modalities: str, settings: Mapping[str, Any]) -> np.ndarray:
    """Logits of one conversation."""
    causal, heads = settings["causal"], settings["heads"]
    present = present_in(talk, modalities)
    told = [[i for i, m in enumerate(modalities) if m in told] for told in told_by(present, causal)]
    x, context, c = inputs(params["inputs"], talk, modalities, settings["width"]), params["context"], []
    for i, m in enumerate(modalities):
        heard = heard_by(present[m], causal), heard_by(present[m], causal, WINDOW)
        long_nd, short_nd = (
            reference.dense(
                self_attention(x[m], context["attention"]["query_key_value"]["kernel"][p, i], heard[p], heads),
                layers_of(context["attention"]["output"], p, i),
            )
            for p in (0, 1)
        )
        paths = (
            post_norm(x[m], long_nd, layers_of(context["long"], i)),
            reference.layer_norm(short_nd, layers_of(context["short_norm"], i)),
            reference.layer_norm(
                reference.dense(x[m], layers_of(context["independent"], i)), layers_of(context["independent_norm"], i)
            ),
        )
        told_n = np.array([i in each for each in told])
        c.append(select(paths, context["selection"]["query"][i]) * told_n[:, None])
    c_nmd = np.stack(c, axis=1)
    paths = [interaction(params["interaction"], c_md, told[n], heads) for n, c_md in enumerate(c_nmd)]
    z_nd = np.array([each[0] for each in paths])
    if len(modalities) > 1:
        z_nd = select(
            [np.array(path) for path in zip(*paths, strict=True)], params["interaction"]["selection"]["query"]
        )
    return reference.dense(np.maximum(z_nd, 0), params["classifier"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modalities", "gaps", "causal"),
    [("a", False, False), ("tv", False, False), ("tav", True, False), ("tav", True, True)],
)
def test_matches_a_second_computation(modalities: str, gaps: bool, causal: bool) -> None:
    check("scmm", forward, modalities, gaps, causal=causal, window=WINDOW)


def test_the_independent_path_begins_near_the_identity() -> None:
    model, batch = small_model("scmm"), pack(conversations((3,)), ((0,),), 3)
    params = jax.jit(lambda: model.init(jax.random.key(0), batch, train=False))()["params"]
    kernel = params["context"]["independent"]["kernel"]
    assert 0 < float(jnp.abs(kernel - jnp.eye(8)[None]).max()) < 0.06


@pytest.mark.parametrize(("modalities", "interactions"), [("t", 1), ("ta", 3), ("tav", 3)])
def test_what_has_no_partner_does_not_exist(modalities: str, interactions: int) -> None:
    """With one modality there is nothing to select; with two, nothing for the biased one to choose from."""
    model, batch = small_model("scmm", modalities), pack(conversations((3,)), ((0,),), 3)
    params = random_params(model, batch)["interaction"]
    assert len({"full", "partial", "biased_attention"} & set(params)) == interactions
    assert ("selection" in params) == (interactions > 1)
    assert ("query" in params.get("biased_attention", {})) == (modalities == "tav")


def test_the_short_path_hears_nobody_beyond_its_window() -> None:
    model, batch = small_model("scmm", "t"), pack(conversations((6,)), ((0,),), 6)
    params = random_params(model, batch)
    changed = batch.replace(features={m: x_rld.at[:, -1].add(3.0) for m, x_rld in batch.features.items()})

    def changes(bias: float) -> np.ndarray:
        # A short path with so large a bias along the query is all that is selected.
        norm = {"scale": jnp.ones((1, 8)), "bias": jnp.full((1, 8), bias)}
        selection = {"query": jnp.ones((1, 8))}
        context = {**params["context"], "short_norm": norm, "selection": selection}
        before, after = (
            outputs_of(model, {**params, "context": context}, each).logits_rlc[0] for each in (batch, changed)
        )
        return np.asarray(jnp.abs(before - after).max(-1))

    assert (changes(0.0) > 1e-5).all()
    alone = changes(50.0)
    np.testing.assert_allclose(alone[:3], 0, atol=1e-6)
    assert (alone[3:] > 1e-5).all()
