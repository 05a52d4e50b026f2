"""Reads what libsndfile knows of a recording (wav, flac, ogg, mp3, aiff), as far as it can be read.

Extraction and the server read through this module, so that they hear the same.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from cmath_jax.extract.headers import CorrectedFile, SoundLayout, layout_of
from cmath_jax.extract.packages import package

ENDLESS = 2**63 - 1  # libsndfile: the length of a FLAC that was written as a stream
MOST_SECONDS = 10**6  # what says that it is longer does not know how long it is
BLOCK = 2**16  # samples: what a header says of the length is not believed before they are read
# Of these the samples cannot go beyond full scale, and there are as many as the file has bytes for.
WHOLE_NUMBERS = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM")


@dataclass(frozen=True)
class Survey:
    """The facts about a sound file.

    Attributes:
      layout: how it is read.
      form: of the file, as libsndfile calls it.
      rate: samples a second.
      channels: how many.
      samples: of each channel, that can be read.
      announced: how many its header names; more than there are where it breaks off, unless it does not say.
      cut: whether it breaks off.
      peak: the largest absolute value of those that are numbers, where 1 is full scale.
    """

    layout: SoundLayout
    form: str
    rate: int
    channels: int
    samples: int
    announced: int
    cut: bool
    peak: float


def survey(path: Path, most_seconds: float = math.inf) -> Survey | None:
    """Returns what is in a file, or None where libsndfile knows nothing of it.

    Args:
      most_seconds: so far samples are counted; a longer file has a few more than these in the answer.

    Raises:
      OSError: the file cannot be read.
    """
    library = package("soundfile")
    with open(path, "rb") as bytes_of:
        layout = layout_of(bytes_of)
        try:
            with _opened(library, bytes_of, layout) as file:
                facts = file.format, file.samplerate, file.channels
                named, form = file.frames, file.subtype
        except library.LibsndfileError:
            return None
        found = Survey(layout, *facts, samples=named, announced=named, cut=layout.cut, peak=1.0)
        if form in WHOLE_NUMBERS and found.form != "FLAC":
            return _with_named(found)
        most = most_seconds * found.rate
        samples, peak = _counted(library, bytes_of, layout, most)
        announced = samples if named >= ENDLESS or samples > most else max(named, samples)
        return _with_named(replace(found, samples=samples, announced=announced, peak=peak))


def _with_named(found: Survey) -> Survey:
    """Returns the survey with what the sizes in the header tell of samples that are not there."""
    announced = max(found.announced, round(found.samples * found.layout.named))
    cut = found.cut or announced > found.samples
    return replace(found, announced=announced if announced < MOST_SECONDS * found.rate else found.samples, cut=cut)


def surveyed(path: Path) -> Survey | None:
    """Returns what `survey` does, but looks only once at a file that stays the same. Raises OSError."""
    state = os.stat(path)
    return _surveyed(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _surveyed(path: Path, size: int, time: int) -> Survey | None:
    return survey(path)


def blocks(path: Path, found: Survey, begin: int = 0, end: int = ENDLESS) -> Iterator[np.ndarray]:
    """Yields the samples from one place to another, float32 [samples, channels], in parts.

    Raises:
      OSError: the file cannot be read.
      LibsndfileError: what could be read before cannot be read any more.
    """
    end = min(end, found.samples)
    with open(path, "rb") as bytes_of, _opened(package("soundfile"), bytes_of, found.layout) as file:
        place = begin
        if begin and not _sought(file, begin):
            place = 0
        while place < end:
            read = file.read(min(BLOCK, end - place), dtype="float32", always_2d=True)
            if len(read) == 0:
                return
            skipped = max(begin - place, 0)
            place += len(read)
            if skipped < len(read):
                yield read[skipped:]


def _sought(file: Any, place: int) -> bool:
    """Moves a file, and returns whether it could be moved; where not, it is still at its beginning."""
    try:
        return bool(file.seek(place) == place)
    except package("soundfile").LibsndfileError:
        return False


def _counted(library: Any, bytes_of: Any, layout: SoundLayout, most: float) -> tuple[int, float]:
    """Returns how many samples can be read, one after the other, and the largest of them."""
    count, peak, block = 0, 0.0, BLOCK
    while block:
        with _opened(library, bytes_of, layout) as file:
            if count and not _sought(file, count):
                break
            try:
                while count <= most and len(read := file.read(block, dtype="float32", always_2d=True)):
                    count += len(read)
                    peak = max(peak, float(np.abs(np.where(np.isfinite(read), read, 0)).max()))
                break
            except library.LibsndfileError:
                block //= 2  # with the samples that fail those before them are lost
    return count, peak


def _opened(library: Any, bytes_of: IO[bytes], layout: SoundLayout) -> Any:
    return _straight(library)(CorrectedFile(bytes_of, layout))


@cache
def _straight(library: Any) -> Any:
    class Straight(library.SoundFile):
        """Reads on where it has stopped. The class itself seeks there after each read, and an MP3 then breaks."""

        def seekable(self) -> bool:
            return False

    return Straight
