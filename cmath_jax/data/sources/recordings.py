"""Recordings that conversations name, and which of them are there."""

import os
from collections.abc import Iterable
from pathlib import Path

from cmath_jax.data.sources.schema import Transcript

_SHOWN = 3  # of those that are not there


def recordings_line(transcripts: Iterable[Transcript], folder: Path) -> tuple[str, int]:
    """Returns a line that says how many recordings are named and how many are not there, "" for none, and the latter.

    Args:
      folder: to which the paths of the recordings are relative.
    """
    named = {
        path: folder / path
        for transcript in transcripts
        for utterance in transcript.utterances
        for path in (utterance.audio, utterance.video)
        if path is not None
    }
    if not named:
        return "", 0
    gone = [os.path.normpath(place) for place in named.values() if not _is_file(place)]
    first = f": {', '.join(gone[:_SHOWN])}{', ...' if len(gone) > _SHOWN else ''}" if gone else ""
    return f"recordings named: {len(named)}; not there: {len(gone)}{first}", len(gone)


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
