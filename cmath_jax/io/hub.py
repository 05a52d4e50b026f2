"""The one way in which the Hugging Face hub is asked for something; its library is optional, and imported here."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from cmath_jax.errors import InputError

SECONDS = 10.0  # that an answer may take


@contextlib.contextmanager
def asking(told: str, advice: str = "") -> Iterator[Any]:
    """Gives `huggingface_hub` to ask with, and raises InputError for what it raises meanwhile.

    Args:
      told: what was looked for, and is not here; it begins the message.
      advice: ends it.

    Raises:
      InputError: it must not be asked, it has nothing of that name, or nobody answers.
      ImportError: huggingface_hub is not installed.
    """
    hub, errors, constants = (
        importlib.import_module(f"huggingface_hub{part}") for part in ("", ".errors", ".constants")
    )
    # The library underneath is another one from version to version; the first class above that of the hub is of it.
    http = importlib.import_module(errors.HfHubHTTPError.__bases__[0].__module__)
    place, end = constants.ENDPOINT, f"; {advice}" if advice else ""
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{told}; to look for it at {place} is forbidden by HF_HUB_OFFLINE{end}")
    try:
        yield hub
    except errors.GatedRepoError as error:
        raise InputError(f"{told}; {place} gives it only to those who have agreed to its terms{end}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise InputError(f"{told}; {place} has none of that name, or does not show it{end}") from error
    except (OSError, ValueError, http.HTTPError, http.InvalidURL) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{told}; {place} was asked for it in vain ({first}){end}") from error
