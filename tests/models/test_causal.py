"""`model.causal=true`: no utterance is told by what comes after it."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import CLASSES, HEADS, SPEAKERS, WIDTH, conversations, init, make_model, outputs_of, pack, tiny

from cmath_jax.data.batches import Batch
from cmath_jax.data.load import load_corpus
from cmath_jax.models import attention
from cmath_jax.models.baselines.sdt import SDT
from cmath_jax.models.registry import make_model as configured

LENGTHS, ROWS, SLOTS = (6, 2, 4), ((0, 2), (1,)), 11
MODELS = {
    "cmath": make_model,
    "kernel of 3": lambda **options: make_model(kernel=3, **options),
    "block": lambda **options: make_model(inject="block", **options),
    "sdt": lambda **options: SDT(classes=CLASSES, speakers=SPEAKERS, width=WIDTH, heads=HEADS, dropout=0.0, **options),
}


def influence(model: Any, batch: Batch) -> np.ndarray:
    """[q, k]: how much the text, audio and video of slot k of the first row tell on the logits and the reconstructions
    of slot q: the size of the gradient of their sum with weights drawn at random.

    One slot after the other: what jax 0.10 compiles for a processor of `jax.jacrev` through LayerNorm is wrong.
    """
    params = init(model, batch)

    def told(features: Any, slot: jax.Array) -> jax.Array:
        found = model.apply({"params": params}, batch.replace(features=features), train=False)
        parts = (found.logits_rlc, *found.reconstructions.values(), *found.modality_logits.values())
        at_slot = jnp.concatenate([x_rld[0, slot] for x_rld in parts])
        return at_slot @ jax.random.normal(jax.random.key(0), at_slot.shape)

    slopes_of = jax.jit(jax.grad(told))
    slopes = [slopes_of(batch.features, slot) for slot in range(SLOTS)]
    return np.stack([sum(np.abs(np.asarray(x_rld[0])).sum(-1) for x_rld in of_slot.values()) for of_slot in slopes])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_future_has_no_influence(name: str) -> None:
    batch = pack(conversations(LENGTHS), ROWS, SLOTS)
    segment = np.asarray(batch.segment_rl[0])
    same = (segment[:, None] == segment[None, :]) & (segment > 0)[:, None]
    past = same & np.tri(SLOTS, dtype=bool)
    causal = influence(MODELS[name](causal=True), batch)
    assert (causal[past] > 0).all()  # all that was said before tells, the utterance itself included
    assert not causal[~past & (segment > 0)[:, None]].any()
    both = influence(MODELS[name](), batch)
    assert (both[same] > 0).all()


def test_what_is_missing_later_has_no_influence() -> None:
    """Whether a later utterance has a face at all: not on the gates and not on the fusion of those before."""
    talk = conversations((6,))[0]
    video = talk.features["v"].copy()
    video[:3] = np.nan
    late = replace(talk, features={**talk.features, "v": video})
    never = replace(talk, features={**talk.features, "v": np.full_like(video, np.nan)})
    model = make_model(causal=True)
    batches = [pack([talk], ((0,),), 6) for talk in (late, never)]
    params = init(model, batches[0])
    logits = [np.asarray(outputs_of(model, params, batch).logits_rlc[0]) for batch in batches]
    np.testing.assert_allclose(logits[0][:3], logits[1][:3], atol=1e-6)
    assert abs(logits[0][3:] - logits[1][3:]).max() > 1e-4


def test_a_long_row_is_causal_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model(causal=True), pack(conversations(LENGTHS), ROWS, SLOTS)
    params = init(model, batch)
    at_once = outputs_of(model, params, batch).logits_rlc
    monkeypatch.setattr(attention, "DENSE_SLOTS", 4)
    monkeypatch.setattr(attention, "CHUNK_SCORES", 9 * 2 * HEADS * SLOTS * 3)
    in_chunks = jax.jit(lambda params: model.apply({"params": params}, batch, train=False).logits_rlc)(params)
    np.testing.assert_allclose(in_chunks, at_once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cmath", "sdt"])
def test_the_option_reaches_the_model(name: str) -> None:
    config = tiny(model__name=name, model__causal=True)
    corpus = load_corpus("simulated", simulation=config.data.simulation)
    made = configured(config.model, corpus, config.data.modalities, config.precision)
    assert made.causal  # type: ignore[attr-defined]
