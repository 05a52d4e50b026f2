"""Random parameters of the float64 reference, and their form in the model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from reference import Array, Params, complete


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
