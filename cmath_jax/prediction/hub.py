"""Model folders that are named on the Hugging Face hub: kept from an earlier download, or to be downloaded.

Only the files of a model are fetched, which are JSON, arrays and text: nothing in them is run.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError
from cmath_jax.io.hub import SECONDS, asking

RUNS = "runs"  # the folder of all runs, by default
_NAME = re.compile(r"(?:hf://)?(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def is_name(path: str) -> bool:
    """Whether a path is the name of a model on the hub: `hf://USER/NAME`, or USER/NAME where there is no folder USER.

    So a folder that is misspelled, `runs/tlak`, is not looked for elsewhere; nor is one of `runs`, where models are
    trained to, before there is any: whoever had that name on the hub would answer.
    """
    if path.startswith("hf://"):
        return True
    user = path.partition("/")[0]
    return _NAME.fullmatch(path) is not None and user != RUNS and not Path(user).exists()


def from_hub(path: str, files: Sequence[str]) -> Path:
    """Returns the folder of a model of the hub. What was downloaded before is used without asking for a newer one.

    Args:
      path: a name, as `is_name` knows it; USER/NAME@REVISION for a branch, a tag or a commit.
      files: that are downloaded, where there are such.

    Raises:
      InputError: there is no such model, nobody answers, or huggingface_hub is not installed.
    """
    found = _NAME.fullmatch(path)
    told = f"--checkpoint {path}: there is no such folder"
    if found is None:
        raise InputError(f"--checkpoint {path}: a model on the Hugging Face hub is named hf://USER/NAME")
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise InputError(f"{told}; to look for it on the Hugging Face hub: pip install huggingface_hub") from error
    errors = importlib.import_module("huggingface_hub.errors")
    wanted = {"repo_id": found["name"], "revision": found["revision"], "allow_patterns": [*files]}
    try:
        return Path(hub.snapshot_download(**wanted, local_files_only=True))
    except errors.HFValidationError as error:
        raise InputError(f"{told}, and the Hugging Face hub has no such names") from error
    except (errors.LocalEntryNotFoundError, FileNotFoundError):
        pass  # it was not downloaded before
    with asking(told) as hub:
        hub.HfApi().model_info(found["name"], revision=found["revision"], timeout=SECONDS, expand=["sha"])
        folder = hub.snapshot_download(**wanted, etag_timeout=SECONDS)
    return Path(folder)
