"""A second computation of models without released code: NumPy, float64, one conversation at a time, without masks.

Here are the parts that the models share, and the comparison. Who is heard is a list of utterances for each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import reference
from every_model import random_params, small_model
from samples import SPEAKERS, conversations, pack, unpack

from cmath_jax.data.corpus import Conversation

LENGTHS, ROWS, SLOTS = (6, 1, 4, 9), ((0, 2), (3, 1)), 12
STEP = 1e-5
Heard = Sequence[Sequence[int]]
Forward = Callable[[Any, Conversation, str, Mapping[str, Any]], np.ndarray]  # logits [n, c]


def layers_of(tree: Any, *index: Any) -> Any:
    """The layer of a stack."""
    return jax.tree.map(lambda x: x[index], tree)


def inputs(params: Any, talk: Conversation, modalities: str, width: int) -> dict[str, np.ndarray]:
    """X_m: a linear layer, the place, and the speaker if the model is told of it here."""
    place_nd = reference.position(len(talk), width)
    if "speaker" in params:
        place_nd += params["speaker"]["embedding"][talk.speakers]
    said = {m: np.nan_to_num(talk.features[m].astype(np.float64)) for m in modalities}
    return {m: reference.dense(said[m], params[f"linear_{m}"]) + place_nd for m in modalities}


def present_in(talk: Conversation, modalities: str) -> dict[str, list[bool]]:
    """Which utterances have a modality."""
    return {m: [not np.isnan(x_d).any() for x_d in talk.features[m]] for m in modalities}


def told_by(present: Mapping[str, list[bool]], causal: bool) -> list[set[str]]:
    """The modalities that each utterance is told by: its own, or, if it has none, those that it can hear of."""
    told = []
    for i in range(len(next(iter(present.values())))):
        own = {m for m in present if present[m][i]}
        told.append(own or {m for m in present if any(present[m][: i + 1] if causal else present[m])})
    return told


def heard_by(has: Sequence[bool], causal: bool, window: int = 10**6) -> list[list[int]]:
    """Whom each utterance hears: those who have it, are near enough, and if causal not later."""
    n = len(has)
    return [[k for k in range(n) if has[k] and abs(q - k) <= window and not (causal and k > q)] for q in range(n)]


def attend(
    query_nd: np.ndarray,
    key_of: Callable[[int, int], np.ndarray],
    value_of: Callable[[int, int], np.ndarray],
    heard: Heard,
    heads: int,
) -> np.ndarray:
    """What each query hears, heads side by side; 0 if nobody. Keys and values by the numbers of query and key."""
    mixed_nd = np.zeros_like(query_nd)
    for q, keys in enumerate(heard):
        for head in np.split(np.arange(query_nd.shape[1]), heads) if len(keys) else ():
            score_k = np.array([query_nd[q, head] @ key_of(q, k)[head] / math.sqrt(len(head)) for k in keys])
            weight_k = reference.softmax(score_k)
            mixed_nd[q, head] = sum(w * value_of(q, k)[head] for w, k in zip(weight_k, keys, strict=True))
    return mixed_nd


def self_attention(x_nd: np.ndarray, kernel: np.ndarray, heard: Heard, heads: int) -> np.ndarray:
    """Attention of a sequence to itself, by a kernel [d, 3, h, w], without the matrix of its output."""
    query_nd, key_nd, value_nd = (x_nd @ kernel[:, i].reshape(len(kernel), -1) for i in range(3))
    return attend(query_nd, lambda _, k: key_nd[k], lambda _, k: value_nd[k], heard, heads)


def post_norm(x_nd: np.ndarray, a_nd: np.ndarray, layer: Any) -> np.ndarray:
    """The end of an encoder layer."""
    y_nd = reference.layer_norm(x_nd + a_nd, layer["attention_norm"])
    f_nd = reference.dense(np.maximum(reference.dense(y_nd, layer["hidden"]), 0), layer["project"])
    return reference.layer_norm(y_nd + f_nd, layer["output_norm"])


def talks_of(gaps: bool) -> list[Conversation]:
    """Conversations, with gaps if wanted: some lack one modality, one all of them, and a conversation has no text."""
    talks = [replace(talk, features={m: x.copy() for m, x in talk.features.items()}) for talk in conversations(LENGTHS)]
    if gaps:
        talks[0].features["a"][3:] = np.nan
        talks[2].features["t"][:] = np.nan
        talks[3].features["v"][:4] = np.nan
        for x_nd in talks[3].features.values():
            x_nd[2] = np.nan
    return talks


def check(name: str, forward: Forward, modalities: str, gaps: bool, **options: Any) -> None:
    """Compares logits, and the slope of the mean cross-entropy along a random direction, in float64."""
    talks = talks_of(gaps)
    label_n = np.concatenate([talk.labels for talk in talks])
    with jax.enable_x64(True):
        model = small_model(name, modalities, SPEAKERS, "float64", **options)
        batch = pack(talks, ROWS, SLOTS, modalities)
        assert bool(batch.present) == gaps
        batch = batch.replace(features={m: x.astype(jnp.float64) for m, x in batch.features.items()})
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), random_params(model, batch))

        @jax.jit
        def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
            logits_rlc = model.apply({"params": params}, batch, train=False).logits_rlc
            log_rlc = jax.nn.log_softmax(logits_rlc)
            chosen_rl = jnp.take_along_axis(log_rlc, jnp.maximum(batch.label_rl, 0)[..., None], -1)[..., 0]
            return -jnp.where(batch.label_rl >= 0, chosen_rl, 0.0).sum() / len(label_n), logits_rlc

        gradient, logits_rlc = jax.tree.map(
            np.asarray, jax.grad(loss_of, has_aux=True)(jax.tree.map(jnp.asarray, params))
        )
    settings = {name: getattr(model, name) for name in ("width", "heads", "causal")} | {"model": model}

    def logits_of(params: Any) -> np.ndarray:
        return np.concatenate([forward(params, talk, modalities, settings) for talk in talks])

    np.testing.assert_allclose(unpack(logits_rlc, batch), logits_of(params), rtol=1e-10, atol=1e-10)
    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape) / math.sqrt(x.size), params)

    def loss_at(distance: float) -> float:
        log_nc = reference.log_softmax(logits_of(jax.tree.map(lambda x, d: x + distance * d, params, direction)))
        return -float(log_nc[np.arange(len(label_n)), label_n].mean())

    slope = sum(float((g * d).sum()) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    np.testing.assert_allclose(slope, (loss_at(STEP) - loss_at(-STEP)) / (2 * STEP), rtol=1e-6, atol=1e-8)
