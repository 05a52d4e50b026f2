"""Sound files and sound tracks -> samples. Shapes: n samples, c channels.

soundfile reads what libsndfile knows (wav, flac, ogg, mp3), PyAV all else (mp4, m4a, mkv, webm).
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from cmath_jax.extract.containers import frames_from
from cmath_jax.extract.packages import package
from cmath_jax.extract.recordings import Span, UnreadableError

LOOKBACK = 1.0  # seconds: compressed sound is decoded from a little before the span, until the decoder has settled
SLACK = 0.01  # seconds, by which the times of a container may be wrong
RATES = (1_000, 768_000)  # samples a second; what says that it has fewer or more is damaged
UNKNOWN = 2**63 - 1  # libsndfile: the length of a FLAC that was written as a stream, of which it finds no end
BLOCK = 2**20  # samples: what a header says of the length is not believed before they are read
LASTING = (1, 3, 4)  # libsndfile: an unknown format, a malformed file, an encoding that it does not support


def read_sound(span: Span, rate: int) -> np.ndarray:
    """float32 [n], the mean of all channels, in -1..1, so many samples a second. Raises UnreadableError."""
    soundfile = package("soundfile")
    found = None
    with suppress(soundfile.LibsndfileError), soundfile.SoundFile(span.path) as file:
        if file.frames < UNKNOWN:
            found = _by_soundfile(file, span)
    x_n, native = found or _by_av(span)
    if len(x_n) == 0:
        raise UnreadableError(f"there is no sound {_where(span)}")
    if not np.isfinite(x_n).all():
        raise UnreadableError(f"there are samples that are no numbers {_where(span)}")
    return resampled(x_n, native, rate)


def resampled(x_n: np.ndarray, native: int, rate: int) -> np.ndarray:
    """float32 [n]: the same sound with another number of samples a second."""
    from scipy.signal import resample_poly

    if native != rate:
        common = math.gcd(native, rate)
        x_n = resample_poly(x_n, rate // common, native // common)
    return x_n.astype(np.float32)


def _checked(rate: int) -> int:
    if not RATES[0] <= rate <= RATES[1]:
        raise UnreadableError(f"it says that it has {rate} samples a second; {RATES[0]} to {RATES[1]} can be read")
    return rate


def _by_soundfile(file: Any, span: Span) -> tuple[np.ndarray, int]:
    """float64 [n] and its rate."""
    rate = _checked(file.samplerate)
    start = round((span.start or 0) * rate)
    if start >= file.frames:
        raise UnreadableError(f"it ends after {file.frames / rate:.2f} s, {_where(span)} there is nothing")
    begin = max(start - round(LOOKBACK * rate), 0)
    last = file.frames if span.end is None else round(span.end * rate)
    parts = []
    try:
        file.seek(begin)
        while begin < last:
            x_nc = file.read(min(BLOCK, last - begin), dtype="float32", always_2d=True)
            if len(x_nc) == 0:
                break
            parts.append(x_nc[max(start - begin, 0) :].mean(1, dtype=np.float64))
            begin += len(x_nc)
    except package("soundfile").LibsndfileError as error:
        raise UnreadableError(f"it is broken ({error})", lasting=error.code in LASTING) from error
    return np.concatenate([np.zeros(0), *parts]), rate


def _by_av(span: Span) -> tuple[np.ndarray, int]:
    """float64 [n] and its rate."""
    av = package("av")
    start, end = span.start or 0.0, math.inf if span.end is None else span.end
    rate, first = 0, 0
    form: tuple[Any, ...] = ()
    planes: Any = None
    kept: list[np.ndarray] = []
    for begins, frame in frames_from(span, "audio", LOOKBACK):
        if begins >= end + SLACK:
            break
        rate = rate or _checked(frame.sample_rate)
        pieces: list[Any] = []
        if form != (frame.format.name, frame.layout.name, frame.sample_rate):  # they may change in the middle
            form = frame.format.name, frame.layout.name, _checked(frame.sample_rate)
            pieces = planes.resample(None) if planes else []
            # Planes of floats, whatever the file holds, of one rate.
            planes = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
        x_n = _mean([*pieces, *planes.resample(frame)])
        if not kept:
            first = round((start - begins) * rate)
            first = 0 if -SLACK * rate < first < 0 else first  # less: the recording has nothing at the start
        if kept or first < len(x_n):
            kept.append(x_n)
    if not kept:
        raise UnreadableError(f"there is no sound {_where(span)}")
    # Counted from the start: times are rounded, in some containers to a millisecond, which would add up.
    last = None if math.isinf(end) else max(first + round((end - start) * rate), 0)
    return np.concatenate([*kept, _mean(planes.resample(None))])[max(first, 0) : last], rate


def _mean(pieces: Sequence[Any]) -> np.ndarray:
    """float64 [n]: frames of planes, one after the other, the mean of their channels."""
    return np.concatenate([np.zeros(0), *(piece.to_ndarray().mean(0, dtype=np.float64) for piece in pieces)])


def _where(span: Span) -> str:
    if span.start is None and span.end is None:
        return "in it"
    return f"from {span.start or 0:g} s to {'its end' if span.end is None else f'{span.end:g} s'}"
