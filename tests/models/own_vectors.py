"""Test vectors of our own: a second computation of a model, in NumPy and float64, stands for released code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cmath_jax.data.corpus import Conversation

STEP = 1e-5  # of central differences, whose error is about its square
NAMES = {"t": "text", "a": "audio", "v": "visual"}
Parameters = Mapping[str, np.ndarray]
Forward = Callable[[Parameters, Conversation], np.ndarray]  # log-probabilities [n, c] of one conversation, alone


def write_vectors(
    path: Path,
    parameters: Parameters,
    conversations: Sequence[Conversation],
    forward: Forward,
    extra: Parameters | None = None,
    fixed: Sequence[str] = (),
) -> None:
    """Writes a file of convention A (`cmath_jax.models.baselines.vectors`), with the gradient by central differences.

    Args:
      parameters: by the names of the released code.
      extra: other arrays of the file, by their names there.
      fixed: parameters without a gradient, such as running statistics.
    """
    parameters = {name: np.asarray(x, np.float64) for name, x in parameters.items()}
    arrays: dict[str, np.ndarray] = {f"param/{name}": x for name, x in parameters.items()} | dict(extra or {})
    for k, talk in enumerate(conversations):
        arrays |= {f"conv{k}/{NAMES[m]}": x_nd.astype(np.float64) for m, x_nd in talk.features.items()}
        arrays |= {f"conv{k}/speaker": talk.speakers, f"conv{k}/label": talk.labels}
        arrays[f"logp/{k}"] = forward(parameters, talk)

    def loss_of(changed: Parameters) -> float:
        chosen = [forward(changed, talk)[np.arange(len(talk)), talk.labels] for talk in conversations]
        return -float(np.concatenate(chosen).mean())

    arrays["loss_ce"] = np.array(loss_of(parameters))
    for name in parameters:
        if name not in fixed:
            arrays[f"grad/{name}"] = _slopes(parameters, name, loss_of)
    np.savez(path, **arrays)


def _slopes(parameters: Parameters, name: str, loss_of: Callable[[Parameters], float]) -> np.ndarray:
    slopes = np.zeros_like(parameters[name])
    for place in np.ndindex(slopes.shape):
        sides = []
        for sign in (1, -1):
            moved = parameters[name].copy()
            moved[place] += sign * STEP
            sides.append(loss_of({**parameters, name: moved}))
        slopes[place] = (sides[0] - sides[1]) / (2 * STEP)
    return slopes
