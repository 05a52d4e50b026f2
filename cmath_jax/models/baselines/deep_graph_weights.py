"""The parameters of the released code of MMGCN, which MM-DFN has taken over: the same names, alive and dead."""

from typing import Any

import numpy as np

from cmath_jax.models.baselines.weights import Tree, Weights

LETTERS = {"t": "l", "a": "a", "v": "v"}  # the released names of the modalities
RELEASED_DEAD = (
    r"(att_model|gatedatt)\..*"
    r"|graph_model\.(a_fc|v_fc|l_fc|feature_fc|final_fc|modal_embeddings|speaker_embeddings|\w_spk_embs)\..*"
)


def released_graph_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit: widths and layers."""
    graph_width, width = weights["graph_model.graph_net.fcs.0.weight"].shape
    layers = weights.count(r"graph_model\.graph_net\.convs\.\d+\.weight")
    return {"width": width, "graph_width": graph_width, "layers": layers}


def released_graph_params(weights: Weights) -> Tree:
    """Returns our parameters that both models have. The released classifier has text behind audio and visual."""
    layers = released_graph_options(weights)["layers"]
    kernels = [weights[f"graph_model.graph_net.convs.{layer}.weight"] for layer in range(layers)]
    classifier = weights.dense("smax_fc")
    audio, visual, text = np.split(classifier["kernel"], 3)
    return {
        **{f"input_{m}": weights.dense(f"linear_{letter}") for m, letter in LETTERS.items()},
        "text_context": weights.recurrent("lstm_l"),  # in MM-DFN a GRU, all the same
        "graph": {"input": weights.dense("graph_model.graph_net.fcs.0"), "kernel": np.stack(kernels)},
        "classifier": {**classifier, "kernel": np.concatenate([text, audio, visual])},
    }
