"""The place of what cannot be used, for those who show the error beside it."""

import contextlib
from collections.abc import Iterator

from cmath_jax.errors import InputError


@contextlib.contextmanager
def placed(
    where: str = "", *, conversation: int | None = None, utterance: int | None = None, recording: str | None = None
) -> Iterator[None]:
    """Tells an `InputError` that passes where it happened, as far as it does not know already.

    Args:
      where: names the place, as the message begins with it.
    """
    try:
        yield
    except InputError as error:
        if where and error.reason is None and str(error).startswith(where):
            error.reason = str(error).removeprefix(where).lstrip(":, ")
        for name, value in (("conversation", conversation), ("utterance", utterance), ("recording", recording)):
            if getattr(error, name) is None:
                setattr(error, name, value)
        raise
