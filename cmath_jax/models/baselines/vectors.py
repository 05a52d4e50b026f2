"""Test vectors: conversations, the parameters of released code, and what that code computes of them, in one .npz file.

There are two ways to name the arrays; k and i count conversations from 0:

| | A | B |
|---|---|---|
| features | conv{k}/text, conv{k}/audio, conv{k}/visual | x_t_{i} or x_t1_{i} to x_t4_{i}, x_a_{i}, x_v_{i} |
| speakers, labels | conv{k}/speaker, conv{k}/label | spk_{i}, lab_{i} |
| parameters | param/NAME | p/NAME |
| log-probabilities | logp/{k} | logp_{i}, all_logp_{i}, or logits_{i} |
| mean cross-entropy, its gradient | loss_ce, grad/NAME | loss_ce, g/NAME |
"""

import itertools
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmath_jax.data.corpus import UNLABELLED, Conversation
from cmath_jax.errors import InputError, require

TEXT_LAYERS = ("x_t1_{}", "x_t2_{}", "x_t3_{}", "x_t4_{}")


@dataclass(frozen=True)
class Vectors:
    """The content of a file of test vectors, float64.

    Attributes:
      conversations: with features by modality; several texts lie side by side.
      log_probabilities: of each conversation, run alone, [n, c].
      loss: the mean cross-entropy over all utterances.
      parameters, gradients: by the names of the released code.
      speakers: how many speaker indices there are.
      extra: all other arrays, by their names.
    """

    conversations: Sequence[Conversation]
    log_probabilities: Sequence[np.ndarray]
    loss: float
    parameters: Mapping[str, np.ndarray]
    gradients: Mapping[str, np.ndarray]
    speakers: int
    extra: Mapping[str, np.ndarray]

    @property
    def classes(self) -> int:
        """Returns the number of classes."""
        return int(self.log_probabilities[0].shape[1])


def read_vectors(path: Path) -> Vectors:
    """Reads a file of test vectors, and runs nothing of it. Raises InputError for a file that is none, or not whole."""
    arrays = _arrays(path)
    first_convention = any(name.startswith("conv0/") for name in arrays)
    prefixes = ("param/", "grad/") if first_convention else ("p/", "g/")
    parameters, gradients = (
        {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)} for prefix in prefixes
    )
    conversations: list[Conversation] = []
    log_probabilities: list[np.ndarray] = []
    while (k := len(conversations)) == 0 or (f"conv{k}/label" if first_convention else f"lab_{k}") in arrays:
        names = (
            {"t": (f"conv{k}/text",), "a": (f"conv{k}/audio",), "v": (f"conv{k}/visual",)}
            if first_convention
            else {"t": _texts(arrays, k), "a": (f"x_a_{k}",), "v": (f"x_v_{k}",)}
        )
        speaker_n, label_n = (
            _get(arrays, name, path, 1)
            for name in ((f"conv{k}/speaker", f"conv{k}/label") if first_convention else (f"spk_{k}", f"lab_{k}"))
        )
        parts = {m: [_get(arrays, name, path, 2) for name in names[m]] for m in names}
        log_probabilities.append(_log_probability(arrays, k, path))
        together = [*itertools.chain(*parts.values()), speaker_n, label_n, log_probabilities[k]]
        require(
            {len(x) for x in together} == {len(label_n)} and len(label_n) > 0,
            f"{path}: utterances of conversation {k}, from 0, are not equally many in all arrays, or there are none",
        )
        features = {m: np.concatenate(x, axis=1) for m, x in parts.items()}
        who_n, what_n = speaker_n.astype(np.int32), label_n.astype(np.int32)
        conversations.append(Conversation(f"conversation {k}", features, who_n, what_n))
    require(bool(parameters), f"{path}: has no parameters, whose names begin with {prefixes[0]}")
    classes = {x_nc.shape[1] for x_nc in log_probabilities}
    require(len(classes) == 1, f"{path}: conversations differ in how many classes they have")
    shapes = [{m: x_nd.shape[1] for m, x_nd in each.features.items()} for each in conversations]
    require(all(each == shapes[0] for each in shapes), f"{path}: conversations differ in how many features they have")
    most = max(int(each.speakers.max()) for each in conversations) + 1
    speakers = int(_get(arrays, "n_speakers", path, 0)) if "n_speakers" in arrays else most
    for of, first, size in (("speakers", 0, speakers), ("labels", UNLABELLED, *classes)):
        index_n = np.concatenate([getattr(each, of) for each in conversations])
        known = bool((index_n >= first).all() and (index_n < size).all())
        require(known, f"{path}: {of} are not all from {first} to {size - 1}")
    strange = [name for name, x in gradients.items() if x.shape != parameters.get(name, x).shape]
    require(not strange, f"{path}: gradients have not the shapes of their parameters: {', '.join(strange[:3])}")
    return Vectors(
        conversations=conversations,
        log_probabilities=log_probabilities,
        loss=float(_get(arrays, "loss_ce", path, 0)),
        parameters=parameters,
        gradients=gradients,
        speakers=speakers,
        extra={name: x for name, x in arrays.items() if not name.startswith(prefixes)},
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, AttributeError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is no .npz file of numbers, or damaged ({error})") from error
    strange = [name for name, x in arrays.items() if x.dtype.kind not in "fiub"]
    require(not strange, f"{path}: {', '.join(strange[:3])}: no numbers")
    bad = [name for name, x in arrays.items() if x.dtype.kind == "f" and not np.isfinite(x).all()]
    require(not bad, f"{path}: {', '.join(bad[:3])}: not finite")
    return arrays


def _get(arrays: Mapping[str, np.ndarray], name: str, path: Path, axes: int) -> np.ndarray:
    if name not in arrays:
        raise InputError(f"{path}: lacks the array {name}; python -m pydoc {__name__} says what there must be")
    require(arrays[name].ndim == axes, f"{path}: {name} has {arrays[name].ndim} axes, not {axes}")
    return arrays[name]


def _texts(arrays: Mapping[str, np.ndarray], k: int) -> tuple[str, ...]:
    layers = tuple(name.format(k) for name in TEXT_LAYERS if name.format(k) in arrays)
    return layers or (f"x_t_{k}",)


def _log_probability(arrays: Mapping[str, np.ndarray], k: int, path: Path) -> np.ndarray:
    """Returns the log-probabilities of a conversation, [n, c]."""
    for name in (f"logp/{k}", f"logp_{k}", f"all_logp_{k}"):
        if name in arrays:
            return _get(arrays, name, path, 2)
    logits_nc = _get(arrays, f"logits_{k}", path, 2)
    shifted_nc = logits_nc - logits_nc.max(-1, keepdims=True)
    log_probability_nc: np.ndarray = shifted_nc - np.log(np.exp(shifted_nc).sum(-1, keepdims=True))
    return log_probability_nc
