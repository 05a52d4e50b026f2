"""Parts of recurrent models in NumPy, one conversation at a time, on parameters in the form of PyTorch."""

import numpy as np
import reference
from own_vectors import Parameters
from samples import conversations

from cmath_jax.data.corpus import MODALITIES, Conversation


def short_conversations() -> list[Conversation]:
    """Returns three conversations of few features, one of them a single utterance; each has two speakers at most."""
    dims = {"t": 2, "a": 1, "v": 1}
    return [
        Conversation(c.id, {m: c.features[m][:, :d] for m, d in dims.items()}, c.speakers % 2, c.labels)
        for c in conversations((4, 1, 3))
    ]


def features_of(talk: Conversation) -> np.ndarray:
    """Returns all modalities side by side, float64 [n, d]."""
    return np.concatenate([talk.features[m] for m in MODALITIES], axis=1).astype(np.float64)


def cell_shapes(name: str, dim: int, width: int, gates: int, ending: str = "") -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the parameters of a cell."""
    size = gates * width
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (size, dim), "weight_hh": (size, width)}
    shapes |= {"bias_ih": (size,), "bias_hh": (size,)}
    return {f"{name}.{each}{ending}": shape for each, shape in shapes.items()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru(p: Parameters, name: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Takes a step of a GRU."""
    x_r, x_z, x_n = np.split(p[f"{name}.weight_ih"] @ x + p[f"{name}.bias_ih"], 3)
    h_r, h_z, h_n = np.split(p[f"{name}.weight_hh"] @ h + p[f"{name}.bias_hh"], 3)
    z = sigmoid(x_z + h_z)
    return (1 - z) * np.tanh(x_n + sigmoid(x_r + h_r) * h_n) + z * h


def lstm(p: Parameters, name: str, x_nd: np.ndarray, ending: str) -> np.ndarray:
    """Runs one direction of one layer of an LSTM from the first row on, [n, d]."""
    weight_ih, weight_hh, bias_ih, bias_hh = (
        p[f"{name}.{each}{ending}"] for each in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = c = np.zeros(weight_hh.shape[1])
    states = []
    for x in x_nd:
        i, f, g, o = np.split(weight_ih @ x + bias_ih + weight_hh @ h + bias_hh, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def matched(p: Parameters, name: str, x_nd: np.ndarray, bounded: bool = False) -> np.ndarray:
    """Averages x by a softmax of x_k . (W x_q + b), or of its tanh."""
    score_qk = (x_nd @ p[f"{name}.weight"].T + p[f"{name}.bias"]) @ x_nd.T
    return np.asarray(reference.softmax(np.tanh(score_qk) if bounded else score_qk) @ x_nd)
