"""Encoders that are named on the Hugging Face hub: kept from an earlier download, or to be downloaded."""

from typing import Any

from cmath_jax.extract.packages import package
from cmath_jax.io.hub import SECONDS, asking

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def is_kept(name: str) -> bool:
    """Returns whether an encoder was downloaded before. What is kept is used without asking for a newer one."""
    return kept_file(name, "config.json") is not None and any(kept_file(name, file) for file in WEIGHTS)


def kept_file(name: str, file: str) -> str | None:
    """Returns the path of a file of an encoder in the cache of the hub's library; None where it is not there."""
    path = _looked_up(name, file)
    return path if isinstance(path, str) else None


def has_file(name: str, file: str) -> bool | None:
    """Returns whether an encoder has a file; None where nobody has asked the hub for it before."""
    if kept_file(name, file):
        return True
    return None if _looked_up(name, file) is None else False


def ask(name: str, advice: str = "") -> None:
    """Checks with the hub, once, that it has an encoder, so that nothing tries again and again what cannot be reached.

    Args:
      advice: ends the message.

    Raises:
      InputError: there is no such encoder, or nobody answers.
    """
    package("huggingface_hub").utils.logging.set_verbosity_error()
    told = f"text: encoder {name} cannot be loaded: it is no folder, and was not downloaded before"
    with asking(told, advice) as hub:
        hub.HfApi().model_info(name, timeout=SECONDS, expand=["sha"])


def _looked_up(name: str, file: str) -> Any:
    """Returns a path; an object where it is known that there is no such file; None where that is not known."""
    try:
        return package("huggingface_hub").try_to_load_from_cache(name, file)
    except ValueError:  # a name that none can have
        return None
