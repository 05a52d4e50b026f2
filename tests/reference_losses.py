"""The losses of the reference and their gradients, in NumPy float64 as the reference itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import Array, Conversation, Outputs, Params, complete, forward, log_softmax


def gather_labels(conversations: Sequence[Conversation], classes: int) -> NDArray[np.int64]:
    """The labels of a batch, one utterance after another."""
    labels_n = np.concatenate([np.asarray(conversation["labels"], dtype=np.int64) for conversation in conversations])
    if labels_n.min() < -1 or labels_n.max() >= classes:
        raise ValueError(f"a label outside -1..{classes - 1}")
    return labels_n


def cross_entropy(logits_nc: Array, labels_n: NDArray[np.int64], class_weights: Any = None) -> float:
    """Weighted mean over the labelled utterances, normalised by the weights of their labels; 0 without any."""
    log_probability_nc = log_softmax(logits_nc)
    weights_c = np.ones(logits_nc.shape[1]) if class_weights is None else np.asarray(class_weights, dtype=np.float64)
    total, normaliser = 0.0, 0.0
    for log_probability_c, label in zip(log_probability_nc, labels_n, strict=True):
        if label >= 0:
            total -= weights_c[label] * log_probability_c[label]
            normaliser += weights_c[label]
    return float(total / normaliser) if normaliser else 0.0


def divergence(teacher_nc: Array, student_nc: Array, labels_n: NDArray[np.int64]) -> float:
    """``KL(softmax(teacher) || softmax(student))``, mean over the labelled utterances, from logits; 0 without any."""
    labelled_n = labels_n >= 0
    if not labelled_n.any():
        return 0.0
    log_p_nc, log_q_nc = log_softmax(teacher_nc[labelled_n]), log_softmax(student_nc[labelled_n])
    return float((np.exp(log_p_nc) * (log_p_nc - log_q_nc)).sum(axis=1).mean())


def squared_error(a_nd: Array, b_nd: Array, labels_n: NDArray[np.int64]) -> float:
    """Mean over labelled utterances and features of the squared difference; 0 without any."""
    labelled_n = labels_n >= 0
    return float(((a_nd - b_nd)[labelled_n] ** 2).mean()) if labelled_n.any() else 0.0


def losses(
    outputs: Sequence[Outputs],
    conversations: Sequence[Conversation],
    settings: Mapping[str, Any],
    teachers: Sequence[Outputs] | None = None,
) -> dict[str, float]:
    """Eqs 3, 18-24 over a batch: ce, reconstruction, mse, kl (unweighted) and total.

    ``teachers`` are the outputs whose ``sample`` and ``logits`` teach in mse and kl, by default ``outputs`` themselves.
    """
    settings = complete(settings)
    if not outputs or len(outputs) != len(conversations):
        raise ValueError(f"{len(outputs)} outputs for {len(conversations)} conversations")
    teachers = outputs if teachers is None else teachers
    logits_nc = np.concatenate([output["logits"] for output in outputs])
    teacher_logits_nc = np.concatenate([teacher["logits"] for teacher in teachers])
    teacher_nd = np.concatenate([teacher["sample"] for teacher in teachers])
    labels_n = gather_labels(conversations, logits_nc.shape[1])

    ce = cross_entropy(logits_nc, labels_n, settings["class_weights"])  # eqs 19-23, with kl below
    reconstruction, mse, kl = 0.0, 0.0, 0.0
    for m in settings["modalities"]:
        student_nd = np.concatenate([output["augmented"][m] for output in outputs])
        student_logits_nc = np.concatenate([output["modality_logits"][m] for output in outputs])
        ce += cross_entropy(student_logits_nc, labels_n, settings["class_weights"])
        mse += squared_error(teacher_nd, student_nd, labels_n)  # eq. 18
        temperature = settings["temperature"]
        kl += divergence(teacher_logits_nc / temperature, student_logits_nc / temperature, labels_n)
        if settings["reconstruction"]:  # eq. 3
            u_nf = np.concatenate([np.asarray(talk["features"][m], dtype=np.float64) for talk in conversations])
            restored_nf = np.concatenate([output["reconstructions"][m] for output in outputs])
            reconstruction += squared_error(u_nf, restored_nf, labels_n)
    total = ce + settings["reconstruction_weight"] * reconstruction  # eq. 24
    total += settings["gamma1"] * mse + settings["gamma2"] * kl
    return {"ce": ce, "reconstruction": reconstruction, "mse": mse, "kl": kl, "total": total}


# Gradients by central differences


def shifted(params: Params, direction: Params, step: float) -> dict[str, Any]:
    """``params + step * direction``; what the direction leaves out stays."""
    unknown = sorted(set(direction) - set(params))
    if unknown:
        raise ValueError(f"a direction along unknown parameters: {unknown}")
    moved: dict[str, Any] = {}
    for name, leaf in params.items():
        if name not in direction:
            moved[name] = leaf
        elif isinstance(leaf, Mapping):
            moved[name] = shifted(leaf, direction[name], step)
        else:
            along = np.asarray(direction[name], dtype=np.float64)
            if along.shape != np.shape(leaf):
                raise ValueError(f"direction of shape {along.shape} for {name} of shape {np.shape(leaf)}")
            moved[name] = np.asarray(leaf, dtype=np.float64) + step * along
    return moved


def directional_derivative(
    params: Params,
    direction: Params,
    conversations: Sequence[Conversation],
    settings: Mapping[str, Any],
    noises: Sequence[Any] | None = None,
    term: str = "total",
    step: float = 1e-5,
) -> float:
    """``d losses[term] / dt`` at ``params + t * direction``, t = 0; ``direction`` may hold only some parameters.

    With ``stop_teacher`` the teachers of mse and kl stay those of the unmoved parameters, while cross-entropy still
    moves the fused logits: the gradient that a stopped teacher gives.
    """
    noises = [None] * len(conversations) if noises is None else noises

    def run(at: Params) -> list[Outputs]:
        return [forward(at, talk, settings, noise) for talk, noise in zip(conversations, noises, strict=True)]

    teachers = run(params) if complete(settings)["stop_teacher"] else None
    ahead, behind = (
        losses(run(shifted(params, direction, sign * step)), conversations, settings, teachers)[term]
        for sign in (1, -1)
    )
    return (ahead - behind) / (2.0 * step)


def loss_gradient(
    params: Params,
    coordinates: Sequence[tuple[str, tuple[int, ...]]],
    conversations: Sequence[Conversation],
    settings: Mapping[str, Any],
    noises: Sequence[Any] | None = None,
    term: str = "total",
    step: float = 1e-5,
) -> Array:
    """The partial derivatives at chosen coordinates, each a path such as ``"cma_t/gate/kernel"`` and an index."""
    gradient = []
    for path, index in coordinates:
        names = path.split("/")
        leaf: Any = params
        for name in names:
            leaf = leaf[name]
        unit = np.zeros(np.shape(leaf))
        unit[index] = 1.0
        direction: Any = unit
        for name in reversed(names):
            direction = {name: direction}
        gradient.append(directional_derivative(params, direction, conversations, settings, noises, term, step))
    return np.array(gradient)
