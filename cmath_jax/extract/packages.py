"""The optional packages: imported where they are needed, and asked for by name where they are not there."""

import importlib
import sys
from typing import Any

from cmath_jax.errors import InputError, installs

INSTALL = installs("extract")


def package(name: str) -> Any:
    """Returns the module of that name, imported. Raises InputError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"the package {name.partition('.')[0]} cannot be imported ({error}): {INSTALL}") from error


def torchvision() -> Any:
    """Returns torchvision. Raises InputError also where it was built for another PyTorch than the installed one."""
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"the package torchvision cannot be imported ({error}): {INSTALL}, with torch and torchvision from one "
            "index (PyTorch's own has both for processors alone)"
        ) from error


def transformers() -> Any:
    """Returns Hugging Face's transformers. Raises InputError where it is not installed."""
    package("torch")
    try:
        importlib.import_module("torchvision")
    except ImportError:
        pass
    except RuntimeError:
        # It was built for another PyTorch. transformers would import it, for pictures, and fail; without it, it reads
        # text as well.
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    module = package("transformers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def device(name: str | None) -> Any:
    """Returns PyTorch's device of that name; without one CUDA, if it is there.

    Raises InputError where it cannot be used.
    """
    torch = package("torch")
    try:
        found = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each kind of device has its own
        first = str(error).strip().splitlines()[0]
        raise InputError(f"--device {name or 'cuda'}: PyTorch cannot use it ({first})") from error
    return found
