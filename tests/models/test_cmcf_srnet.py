"""CMCF-SRNet-style against a second computation of its equations, and what is special to it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import reference
from every_model import random_params, small_model
from samples import conversations, outputs_of, pack
from second import attend, check, heard_by, inputs, layers_of, post_norm, present_in, told_by

from cmath_jax.data.corpus import Conversation

LOCAL, GRAPH, LAYERS = 2, 3, 2


def local_layer(params: Any, x: Mapping[str, np.ndarray], present: Any, causal: bool, heads: int) -> dict[str, Any]:
    """What every modality hears of all, near it."""
    h, kernel = {}, params["query_key_value"]["kernel"]
    for i, m in enumerate(x):
        heard = []
        for j, n in enumerate(x):
            query_nd = x[m] @ kernel[i, :, 0, j].reshape(len(kernel[i]), -1)
            key_nd, value_nd = (x[n] @ kernel[j, :, p, i].reshape(len(kernel[j]), -1) for p in (1, 2))
            near = heard_by(present[n], causal, LOCAL)
            heard.append(attend(query_nd, lambda _, k, y=key_nd: y[k], lambda _, k, y=value_nd: y[k], near, heads))
        a_nd = reference.dense(np.concatenate(heard, axis=1), layers_of(params["merge"], i))
        h[m] = post_norm(x[m], a_nd, layers_of(params["layer"], i))
    return h


def graph_layer(params: Any, h_nd: np.ndarray, speakers: np.ndarray, causal: bool, heads: int) -> np.ndarray:
    """What every utterance hears along its edges."""
    kernel = params["query_key_value"]["kernel"]
    query_nd, key_nd, value_nd = (h_nd @ kernel[:, p].reshape(len(kernel), -1) for p in range(3))

    def relation(q: int, k: int) -> int:
        return 0 if q == k else (1 if k < q else 3) + (speakers[q] != speakers[k])

    def table(name: str, q: int, k: int) -> np.ndarray:
        rows: np.ndarray = params[name][:, relation(q, k)].reshape(-1)
        return rows

    heard_nd = attend(
        query_nd,
        lambda q, k: key_nd[k] + table("relation_key", q, k),
        lambda q, k: value_nd[k] + table("relation_value", q, k),
        heard_by([True] * len(h_nd), causal, GRAPH),
        heads,
    )
    return post_norm(h_nd, heard_nd, params["layer"])


def forward(params: Any, talk: Conversation, modalities: str, settings: Mapping[str, Any]) -> np.ndarray:
    """Logits of one conversation."""
    causal, heads = settings["causal"], settings["heads"]
    present = present_in(talk, modalities)
    told = told_by(present, causal)
    h = inputs(params["inputs"], talk, modalities, settings["width"])
    for layer in range(LAYERS):
        h = local_layer(layers_of(params["local"], layer), h, present, causal, heads)
    parts = [h[m] * np.array([[m in each] for each in told]) for m in modalities]
    merged_nd = reference.dense(np.concatenate(parts, axis=1), params["merge"])
    h_nd = merged_nd
    for layer in range(LAYERS):
        h_nd = graph_layer(layers_of(params["graph"], layer), h_nd, talk.speakers, causal, heads)
    return reference.dense(np.maximum(np.concatenate([merged_nd, h_nd], axis=1), 0), params["classifier"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modalities", "gaps", "causal"),
    [("a", False, False), ("tv", False, False), ("tav", True, False), ("tav", True, True)],
)
def test_matches_a_second_computation(modalities: str, gaps: bool, causal: bool) -> None:
    options = {"local_window": LOCAL, "local_layers": LAYERS, "graph_window": GRAPH, "graph_layers": LAYERS}
    check("cmcf_srnet", forward, modalities, gaps, causal=causal, **options)


@pytest.mark.parametrize(("causal", "relations"), [(False, 5), (True, 3)])
def test_every_relation_can_be(causal: bool, relations: int) -> None:
    """An utterance is never of another speaker than itself, and if causal nothing is later."""
    model, batch = small_model("cmcf_srnet", causal=causal), pack(conversations((3,)), ((0,),), 3)
    assert random_params(model, batch)["graph"]["relation_key"].shape == (2, 2, relations, 4)


def test_what_is_said_far_away_tells_nothing() -> None:
    """Farther than both windows together, one layer of each."""
    options = {"local_window": 1, "local_layers": 1, "graph_window": 2, "graph_layers": 1}
    model, batch = small_model("cmcf_srnet", **options), pack(conversations((8,)), ((0,),), 8)
    params = random_params(model, batch)
    changed = batch.replace(features={m: x_rld.at[:, -1].add(3.0) for m, x_rld in batch.features.items()})
    before, after = (outputs_of(model, params, each).logits_rlc[0] for each in (batch, changed))
    np.testing.assert_array_equal(before[:4], after[:4])
    assert bool((jnp.abs(before[4:] - after[4:]).max(-1) > 1e-5).all())


def test_only_who_speaks_is_told_apart_and_not_by_what_number() -> None:
    """The graph knows whether two utterances have one speaker; the number alone says something by its embedding."""
    model, batch = small_model("cmcf_srnet"), pack(conversations((6,)), ((0,),), 6)
    params = random_params(model, batch)
    order = np.array([2, 0, 1, *range(3, 9)])
    renamed = batch.replace(speaker_rl=jnp.asarray(order)[batch.speaker_rl])
    embedding_vd = params["inputs"]["speaker"]["embedding"]
    moved = {**params, "inputs": {**params["inputs"], "speaker": {"embedding": embedding_vd[np.argsort(order)]}}}
    before, after = outputs_of(model, params, batch).logits_rlc, outputs_of(model, moved, renamed).logits_rlc
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)
