"""CTNet-style against a second computation of its equations, and what is special to it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import reference
from second import attend, check, heard_by, inputs, layers_of, post_norm, present_in, told_by

from cmath_jax.config import Config, override
from cmath_jax.data.corpus import Conversation
from cmath_jax.errors import InputError


def gru(x_nd: np.ndarray, layer: Any, direction: int) -> np.ndarray:
    """The states of one direction of a GRU, in the order of the conversation."""
    width = layer["kernel_state"].shape[1]
    kernel = layer["kernel_input"].reshape(x_nd.shape[1], 2, 3 * width)[:, direction]
    h_d, states = np.zeros(width), []
    for x_d in x_nd[:: 1 - 2 * direction]:
        input_r, input_z, input_n = np.split(x_d @ kernel + layer["bias_input"][direction], 3)
        state_r, state_z, state_n = np.split(h_d @ layer["kernel_state"][direction] + layer["bias_state"][direction], 3)
        r, z = 1 / (1 + np.exp(-input_r - state_r)), 1 / (1 + np.exp(-input_z - state_z))
        h_d = (1 - z) * np.tanh(input_n + r * state_n) + z * h_d
        states.append(h_d)
    return np.array(states[:: 1 - 2 * direction])


def pair(kernels: Any, x_nd: np.ndarray, y_nd: np.ndarray, i: int, j: int, heard: Any, heads: int) -> np.ndarray:
    """Attention of modality i to modality j."""
    query_nd = x_nd @ kernels["query"]["kernel"][i, :, j]
    key_nd, value_nd = (y_nd @ kernels[name]["kernel"][j, :, i] for name in ("key", "value"))
    mixed_nd = attend(query_nd, lambda _, k: key_nd[k], lambda _, k: value_nd[k], heard, heads)
    return reference.dense(mixed_nd, layers_of(kernels["output"], i, j))


def forward(params: Any, talk: Conversation, modalities: str, settings: Mapping[str, Any]) -> np.ndarray:
    """Logits of one conversation."""
    present, heads = present_in(talk, modalities), settings["heads"]
    told = told_by(present, causal=False)
    x, parts = inputs(params["inputs"], talk, modalities, settings["width"]), []
    for i, m in enumerate(modalities):
        for j, n in enumerate(modalities):
            heard = heard_by(present[n], causal=False)
            a_nd = pair(params["attention"], x[m], x[n], i, j, heard, heads)
            s_nd = post_norm(x[m], a_nd, layers_of(params["layer"], i, j))
            known_n = np.array([m in told[q] and bool(heard[q]) for q in range(len(talk))])
            parts.append(np.where(known_n[:, None], s_nd, 0))
    f_nd = np.maximum(reference.dense(np.concatenate(parts, axis=1), params["fusion"]), 0)
    g_nx = np.concatenate([f_nd, params["speaker"]["embedding"][talk.speakers]], axis=1)
    h_nd = np.concatenate([gru(g_nx, params["gru"]["layer_0"], direction) for direction in (0, 1)], axis=1)
    everybody = [range(len(talk))] * len(talk)
    r_nd = pair(params["context_attention"], h_nd, h_nd, 0, 0, everybody, heads)
    return reference.dense(reference.layer_norm(h_nd + r_nd, params["context_norm"]), params["classifier"])


@pytest.mark.slow
@pytest.mark.parametrize(("modalities", "gaps"), [("a", False), ("tv", False), ("tav", True)])
def test_matches_a_second_computation(modalities: str, gaps: bool) -> None:
    check("ctnet", forward, modalities, gaps)


def test_half_of_the_width_is_a_direction_of_the_gru() -> None:
    with pytest.raises(InputError, match=r"model\.width=15 is not even"):
        override(Config(), {"model.name": "ctnet", "model.width": 15, "model.heads": 5})
