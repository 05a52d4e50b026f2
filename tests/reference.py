"""A plain NumPy float64 reference of CMATH, written from the equations alone, that the real model is tested against.

One conversation at a time, unpadded, no dropout, no masks: clarity over speed. It shares no code with the package.

The last letters of a name spell its axes: ``n`` utterances (``q`` as queries, ``s`` as keys), ``f`` the features of one
modality (d_m), ``d`` the width, ``h`` heads, ``e`` the width of one head, ``c`` classes, ``k`` kernel taps.
Parameters are a nested dict of arrays under Flax names: a Dense kernel is ``[in, out]`` and ``y = x @ kernel + bias``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Params = Mapping[str, Any]
Conversation = Mapping[str, Any]  # features={m: [n, d_m]}, speakers=[n], labels=[n] with -1 for an unlabelled utterance
Outputs = dict[str, Any]

DEFAULTS: dict[str, Any] = {
    "modalities": "tav",
    "heads": 10,
    "kernel": 1,
    "reconstruction": True,  # False: wo_mr
    "cross_attention": True,  # False: wo_cma
    "inject": "attention",  # or "block", "nothing"
    "norm": "post",  # or "pre"
    "noise": True,  # False: the fusion has no deviation
    "temperature": 1.0,
    "gamma1": 1.0,
    "gamma2": 1.0,
    "reconstruction_weight": 1.0,
    "class_weights": None,  # or [C]
    "stop_teacher": True,
}
LAYER_NORM_EPSILON = 1e-6
DEVIATION_FLOOR = 1e-6


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the defaults filled in; an unknown name or value is an error."""
    unknown = sorted(set(settings) - set(DEFAULTS))
    if unknown:
        raise ValueError(f"unknown settings: {unknown}")
    merged = {**DEFAULTS, **settings}
    modalities = list(merged["modalities"])
    if not modalities or len(set(modalities)) != len(modalities) or not set(modalities) <= set("tav"):
        raise ValueError(f"modalities must be a non-empty subset of t, a, v: {merged['modalities']!r}")
    if merged["inject"] not in ("attention", "block", "nothing"):
        raise ValueError(f"inject must be 'attention', 'block' or 'nothing': {merged['inject']!r}")
    if merged["kernel"] < 1 or merged["kernel"] % 2 == 0:
        raise ValueError(f"kernel must be odd: {merged['kernel']}")
    return merged


def as_float64(tree: Params) -> dict[str, Any]:
    """A copy of the nested parameters with every leaf a float64 NumPy array."""
    return {
        name: as_float64(leaf) if isinstance(leaf, Mapping) else np.array(leaf, dtype=np.float64)
        for name, leaf in tree.items()
    }


# Building blocks


def dense(x: Array, layer: Params) -> Array:
    """``x @ kernel + bias``, the bias where the layer has one."""
    y: Array = x @ layer["kernel"]
    return y + layer["bias"] if "bias" in layer else y


def convolve(x_ni: Array, layer: Params) -> Array:
    """Cross-correlation over the utterances, zeros outside the conversation (SAME), odd kernel ``[k, in, out]``."""
    kernel_kio = layer["kernel"]
    taps = len(kernel_kio)
    if taps % 2 == 0:
        raise ValueError(f"an odd kernel is needed, not {taps}")
    y_no = np.zeros((len(x_ni), kernel_kio.shape[2]))
    for i in range(len(x_ni)):
        for tap in range(taps):
            source = i + tap - taps // 2
            if 0 <= source < len(x_ni):
                y_no[i] += x_ni[source] @ kernel_kio[tap]
    return y_no + layer["bias"] if "bias" in layer else y_no


def layer_norm(x: Array, layer: Params) -> Array:
    """LayerNorm over the last axis, with the biased variance."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + LAYER_NORM_EPSILON) * layer["scale"] + layer["bias"]
    return normed


def gelu(x: Array) -> Array:
    """The exact GELU, ``x * Phi(x)``."""
    erf = np.vectorize(math.erf, otypes=[np.float64])
    y: Array = 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))
    return y


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))`` without overflow."""
    y: Array = np.logaddexp(0.0, x)
    return y


def log_softmax(x: Array, axis: int = -1) -> Array:
    """``x - log(sum(exp(x)))`` along one axis."""
    shifted = x - x.max(axis=axis, keepdims=True)
    y: Array = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return y


def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))`` along one axis."""
    y: Array = np.exp(log_softmax(x, axis=axis))
    return y


def position(length: int, width: int) -> Array:
    """P of eqs 4-8: sinusoids ``[n, d]``; an odd width ends on a sine."""
    p_nd = np.zeros((length, width))
    for i in range(length):
        for column in range(width):
            angle = i / 10000.0 ** (2 * (column // 2) / width)
            p_nd[i, column] = math.sin(angle) if column % 2 == 0 else math.cos(angle)
    return p_nd


def attention(query_qd: Array, source_sd: Array, layer: Params, heads: int) -> Array:
    """Multi-head attention of a query sequence on a source that is key and value; heads are contiguous blocks."""
    projected_qd = dense(query_qd, layer["query"])
    key_sd = dense(source_sd, layer["key"])
    value_sd = dense(source_sd, layer["value"])
    width = projected_qd.shape[1]
    if width % heads:
        raise ValueError(f"{heads} heads do not divide the width {width}")
    size = width // heads
    blocks = []
    for head in range(heads):
        block = slice(head * size, (head + 1) * size)
        scores_qs = np.einsum("qe,se->qs", projected_qd[:, block], key_sd[:, block]) / math.sqrt(size)
        blocks.append(np.einsum("qs,se->qe", softmax(scores_qs), value_sd[:, block]))
    return dense(np.concatenate(blocks, axis=1), layer["output"])


# The model


def cma_block(sum_nd: Array, name: str, layers: Params) -> Array:
    """The end of eqs 9-11, from a residual sum on: ``B = Norm(sum)``, then ``Norm(FFN(B) + B)``.

    Layers without a norm of the output are those of pre-norm: ``sum + FFN(Norm(sum))``.
    """
    b_nd = layer_norm(sum_nd, layers[f"attention_norm_{name}"])
    hidden_nd = gelu(dense(b_nd, layers[f"hidden_{name}"]))
    if f"output_norm_{name}" not in layers:
        return sum_nd + dense(hidden_nd, layers[f"project_{name}"])
    return layer_norm(dense(hidden_nd, layers[f"project_{name}"]) + b_nd, layers[f"output_norm_{name}"])


def cma_transformer(
    centre: str, embedded: Mapping[str, Array], layers: Params, heads: int, inject: str
) -> tuple[Array, dict[str, Array]]:
    """Eqs 9-14 for one central modality: ``H'_c [n, d]`` and its gate weights, one ``[n, d]`` per input of the gate."""
    h_c_nd = embedded[centre]
    finished = {}
    # What attention reads is normalized in pre-norm.
    norms = layers.get("input_norm", {})
    read = {m: layer_norm(h_nd, norms[m]) if norms else h_nd for m, h_nd in embedded.items()}
    # Eq. 11: A'_cc = A_cc + A_xc + A_yc, or with the finished H_xc and H_yc where whole blocks are injected.
    a_cc_nd = attention(read[centre], read[centre], layers[f"attention_{centre}"], heads)
    for name in embedded:
        if name == centre:
            continue
        a_xc_nd = attention(read[centre], read[name], layers[f"attention_{name}"], heads)  # eqs 9-10
        finished[name] = cma_block(a_xc_nd + h_c_nd, name, layers)
        if inject != "nothing":
            a_cc_nd = a_cc_nd + (a_xc_nd if inject == "attention" else finished[name])
    finished[centre] = cma_block(a_cc_nd + h_c_nd, centre, layers)
    if len(finished) == 1:
        return finished[centre], {}
    # Eq. 12: alpha = softmax over the inputs, per feature, of Z W with one W.
    alpha_znd = softmax(np.stack([dense(z_nd, layers["gate"]) for z_nd in finished.values()]), axis=0)
    gates = dict(zip(finished, alpha_znd, strict=True))
    augmented_nd = np.zeros_like(h_c_nd)
    for name, z_nd in finished.items():
        augmented_nd += gates[name] * z_nd
    return augmented_nd, gates


def perceptron(x_nd: Array, hidden: Params, output: Params) -> Array:
    """Linear, ReLU, Linear."""
    return dense(np.maximum(dense(x_nd, hidden), 0.0), output)


def forward(params: Params, conversation: Conversation, settings: Mapping[str, Any], noise: Any = None) -> Outputs:
    """Every quantity of sections 2 and 3 for one conversation; ``noise [n, d]`` is eps, None for evaluation."""
    settings = complete(settings)
    params = as_float64(params)
    modalities = list(settings["modalities"])
    features = {m: np.asarray(conversation["features"][m], dtype=np.float64) for m in modalities}
    speakers_n = np.asarray(conversation["speakers"])
    length = len(speakers_n)
    if length == 0:
        raise ValueError("a conversation without utterances")
    if any(len(u_nf) != length for u_nf in features.values()):
        raise ValueError("features and speakers differ in length")

    # Eqs 1-2: compress, and restore (a plain Linear and no restoration in wo_mr).
    compressed, reconstructions = {}, {}
    for m, u_nf in features.items():
        if settings["reconstruction"]:
            for layer in (params[f"down_{m}"], params[f"up_{m}"]):
                if len(layer["kernel"]) != settings["kernel"]:
                    raise ValueError(f"kernel of {len(layer['kernel'])} taps, not {settings['kernel']}")
            compressed[m] = convolve(u_nf, params[f"down_{m}"])
            reconstructions[m] = convolve(compressed[m], params[f"up_{m}"])
        else:
            compressed[m] = dense(u_nf, params[f"linear_{m}"])

    # Eqs 4-8: H_m = U'_m + S + P, the same S and P for every modality.
    s_nd = params["speaker"]["embedding"][speakers_n]
    p_nd = position(length, s_nd.shape[1])
    embedded = {m: u_nd + s_nd + p_nd for m, u_nd in compressed.items()}

    # One norm for each modality, whoever asks it.
    input_norms = {m: params[f"input_norm_{m}"] for m in modalities if f"input_norm_{m}" in params}

    # Eqs 9-14: H'_m, one CMA-Transformer per central modality (H'_m = H_m in wo_cma).
    augmented, gates = {}, {}
    for m in modalities:
        if settings["cross_attention"]:
            augmented[m], alpha = cma_transformer(
                m, embedded, params[f"cma_{m}"] | {"input_norm": input_norms}, settings["heads"], settings["inject"]
            )
            if alpha:
                gates[m] = alpha
        else:
            augmented[m] = embedded[m]

    # Eqs 15-17: one Gaussian per modality, their plain average, one draw.
    means, deviations = [], []
    for m in modalities:
        fusion = params[f"fusion_{m}"]
        means.append(perceptron(augmented[m], fusion["mean_hidden"], fusion["mean_output"]))
        if settings["noise"]:
            raw_nd = perceptron(augmented[m], fusion["deviation_hidden"], fusion["deviation_output"])
            deviations.append(softplus(raw_nd) + DEVIATION_FLOOR)
        else:
            deviations.append(np.zeros_like(means[-1]))
    mean_nd = np.mean(means, axis=0)
    deviation_nd = np.mean(deviations, axis=0)
    if noise is None:
        sample_nd = mean_nd
    else:
        eps_nd = np.asarray(noise, dtype=np.float64)
        if eps_nd.shape != mean_nd.shape:
            raise ValueError(f"noise of shape {eps_nd.shape}, not {mean_nd.shape}")
        sample_nd = mean_nd + eps_nd * deviation_nd

    return {
        "logits": dense(sample_nd, params["classifier"]),
        "modality_logits": {m: dense(augmented[m], params[f"classifier_{m}"]) for m in modalities},
        "mean": mean_nd,
        "deviation": deviation_nd,
        "sample": sample_nd,
        "augmented": augmented,
        "reconstructions": reconstructions,
        "gates": gates,
    }


# Parameters from scratch


def random_params(
    rng: np.random.Generator,
    dims: Mapping[str, int],
    settings: Mapping[str, Any],
    speakers: int,
    classes: int,
    width: int,
) -> dict[str, Any]:
    """Random parameters, exactly those that the variant has; no bias is 0 and no scale 1, so that each one matters."""
    settings = complete(settings)
    modalities = list(settings["modalities"])

    def kernel(*shape: int) -> dict[str, Array]:
        fan_in = math.prod(shape[:-1])
        return {"kernel": rng.normal(size=shape) / math.sqrt(fan_in)}

    def affine(*shape: int) -> dict[str, Array]:
        return {**kernel(*shape), "bias": 0.3 * rng.normal(size=shape[-1])}

    def norm() -> dict[str, Array]:
        return {"scale": 1.0 + 0.3 * rng.normal(size=width), "bias": 0.3 * rng.normal(size=width)}

    params: dict[str, Any] = {"speaker": {"embedding": rng.normal(size=(speakers, width))}}
    for m in modalities:
        if settings["reconstruction"]:
            params[f"down_{m}"] = kernel(settings["kernel"], dims[m], width)
            params[f"up_{m}"] = affine(settings["kernel"], width, dims[m])
        else:
            params[f"linear_{m}"] = affine(dims[m], width)
        if settings["cross_attention"]:
            block: dict[str, Any] = {}
            for x in modalities:
                block[f"attention_{x}"] = {
                    **{name: kernel(width, width) for name in ("query", "key", "value")},
                    "output": affine(width, width),
                }
                block[f"attention_norm_{x}"] = norm()
                block[f"hidden_{x}"] = affine(width, width)
                block[f"project_{x}"] = affine(width, width)
                if settings["norm"] == "post":
                    block[f"output_norm_{x}"] = norm()
            if len(modalities) > 1:
                block["gate"] = kernel(width, width)
            if settings["norm"] == "pre":
                params[f"input_norm_{m}"] = norm()
            params[f"cma_{m}"] = block
        moments = ("mean", "deviation") if settings["noise"] else ("mean",)
        params[f"fusion_{m}"] = {
            f"{moment}_{layer}": affine(width, width) for moment in moments for layer in ("hidden", "output")
        }
        params[f"classifier_{m}"] = affine(width, classes)
    params["classifier"] = affine(width, classes)
    return params


def stacked(params: Params, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as the model has them: layers of equal shape in one array, modalities in the order t, a, v."""
    settings = complete(settings)
    order = [m for m in "tav" if m in settings["modalities"]]

    def stack(trees: Sequence[Any], axis: int = 0) -> Any:
        if isinstance(trees[0], Mapping):
            return {name: stack([tree[name] for tree in trees], axis) for name in trees[0]}
        return np.stack([np.asarray(tree) for tree in trees], axis)

    shared = {f"{name}_{m}" for name in ("down", "up", "linear") for m in order} | {"speaker", "classifier"}
    result = {name: layer for name, layer in params.items() if name in shared}
    result["classifiers"] = stack([params[f"classifier_{m}"] for m in order])
    moments = ("mean", "deviation") if settings["noise"] else ("mean",)
    result["fusion"] = {
        layer: stack([stack([params[f"fusion_{m}"][f"{moment}_{layer}"] for moment in moments]) for m in order])
        for layer in ("hidden", "output")
    }
    if settings["cross_attention"]:
        blocks = {(c, x): params[f"cma_{c}"][f"attention_{x}"] for c in order for x in order}
        attention = {
            # One product for all that a modality asks, [c, in, x, out], or answers, [x, in, c, out].
            "query": stack([stack([blocks[c, x]["query"] for x in order], axis=1) for c in order]),
            "key": stack([stack([blocks[c, x]["key"] for c in order], axis=1) for x in order]),
            "value": stack([stack([blocks[c, x]["value"] for c in order], axis=1) for x in order]),
            "output": stack([stack([blocks[c, x]["output"] for x in order]) for c in order]),
        }
        output_norm = ("output_norm",) if settings["norm"] == "post" else ()
        block = {
            layer: stack([stack([params[f"cma_{c}"][f"{layer}_{x}"] for x in order]) for c in order])
            for layer in ("attention_norm", "hidden", "project", *output_norm)
        }
        result["cma"] = {"attention": attention, "block": block}
        if settings["norm"] == "pre":
            result["cma"]["input_norm"] = stack([params[f"input_norm_{m}"] for m in order])
        if len(order) > 1:
            result["cma"]["gate"] = stack([params[f"cma_{c}"]["gate"] for c in order])
    return result
