"""Hashes of weights, by which an encoder is known again wherever it lies."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any


def hash_of_tensors(tensors: Mapping[str, Any], vocabulary: Mapping[str, int] | None = None, design: str = "") -> str:
    """Returns the hash of the names, types, shapes and values of PyTorch tensors, of a vocabulary, and of a text."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(_bytes()).numpy() if tensor.numel() else b"")
    for token, number in sorted((vocabulary or {}).items()):
        digest.update(f"{number} {token};".encode("utf-8", "surrogatepass"))
    digest.update(design.encode())
    return digest.hexdigest()[:16]


def hash_of(parts: Iterable[str]) -> str:
    """Returns the hash of texts, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8
