"""Reads the samples of sound files and sound tracks.

soundfile reads what libsndfile knows (wav, flac, ogg, mp3, aiff), PyAV all else (mp4, m4a, mkv, webm).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmath_jax.errors import reason
from cmath_jax.extract.containers import duration, frames_from
from cmath_jax.extract.packages import package
from cmath_jax.extract.recordings import Span, SpanContent, UnreadableError, ending
from cmath_jax.extract.soundfiles import blocks, surveyed

LOOKBACK = 1.0  # seconds: compressed sound is decoded from a little before the span, until the decoder has settled
SLACK = 0.01  # seconds, by which the times of a container may be wrong
RATES = (1_000, 768_000)  # samples a second; what says that it has fewer or more is damaged
LOUDEST = 100.0  # times full scale: so far a sound of floats is one that was made too loud, beyond it holds integers
SAID = 1.05  # times full scale: compression alone goes beyond by less
DEPTHS = (16, 24, 32)  # bits of the integers


@dataclass(frozen=True)
class Heard:
    """The samples of a span, before they are resampled.

    Attributes:
      samples: float64 [samples], the mean of all channels, not yet scaled.
      rate: samples a second.
      peak: the largest of the recording, by which it is scaled; of a sound track the largest of the span.
      notes: what its user should know.
    """

    samples: np.ndarray
    rate: int
    peak: float
    notes: tuple[str, ...]


def read_sound(span: Span, rate: int) -> SpanContent:
    """Reads a span as float32 [samples], the mean of all channels, in -1..1, so many samples a second.

    Raises:
      UnreadableError: there is nothing, or something that is no sound.
    """
    heard = _by_soundfile(span) or _by_av(span)
    if len(heard.samples) == 0:
        raise UnreadableError(f"there is no sound {_where(span)}")
    if not np.isfinite(heard.samples).all():
        raise UnreadableError(f"there are samples that are no numbers {_where(span)}")
    factor, said = scale(heard.peak)
    samples = resampled(factor * heard.samples, heard.rate, rate)
    return SpanContent(samples / max(float(np.abs(samples).max()), 1.0), (*heard.notes, *said))


def scale(peak: float) -> tuple[float, tuple[str, ...]]:
    """Returns the factor that brings a recording of this peak within full scale, 1, and what to say of it.

    Raises:
      UnreadableError: it is louder than integers of 32 bits.
    """
    if peak <= 1:
        return 1.0, ()
    told = f"its samples reach {peak:.4g} times full scale"
    if peak <= LOUDEST:
        return 1 / peak, (f"{told}; it was divided by that",) if peak > SAID else ()
    for depth in DEPTHS:
        if peak <= 2 ** (depth - 1):
            return 2.0 ** (1 - depth), (f"{told}; they are taken for integers of {depth} bits",)
    raise UnreadableError(f"{told}, more than any recording has")


def resampled(samples: np.ndarray, native: int, rate: int) -> np.ndarray:
    """Returns the same sound with another number of samples a second, float32 [samples]."""
    from scipy.signal import resample_poly

    if native != rate:
        common = math.gcd(native, rate)
        samples = resample_poly(samples, rate // common, native // common)
    return samples.astype(np.float32)


def _checked(rate: int) -> int:
    if not RATES[0] <= rate <= RATES[1]:
        raise UnreadableError(f"it says that it has {rate} samples a second; {RATES[0]} to {RATES[1]} can be read")
    return rate


def _by_soundfile(span: Span) -> Heard | None:
    """Returns what libsndfile reads; None where it knows nothing of the file, or finds nothing in it."""
    try:
        found = surveyed(span.path)
        if found is None or found.samples == 0:
            return None
        rate = _checked(found.rate)
        start = round((span.start or 0) * rate)
        if start >= found.samples:
            raise UnreadableError(f"it ends after {found.samples / rate:.2f} s, {_where(span)} there is nothing")
        begin = max(start - round(LOOKBACK * rate), 0)
        last = found.samples if span.end is None else round(span.end * rate)
        with np.errstate(invalid="ignore"):  # where samples are no numbers `read_sound` says so
            parts = [block.mean(1, dtype=np.float64) for block in blocks(span.path, found, begin, last)]
    except OSError as error:
        raise UnreadableError(f"it cannot be read: {reason(error)}", lasting=False) from error
    except package("soundfile").LibsndfileError as error:
        raise UnreadableError(f"it is broken ({error})") from error
    samples = np.concatenate([np.zeros(0), *parts])[start - begin :]
    announced = found.announced / rate if found.announced > found.samples else None
    notes = ending(span, found.samples / rate, announced, "its header names", found.cut)
    return Heard(samples, rate, found.peak, notes)


def _by_av(span: Span) -> Heard:
    av = package("av")
    start, end = span.start or 0.0, math.inf if span.end is None else span.end
    rate, first, read_to = 0, 0, 0.0
    form: tuple[Any, ...] = ()
    floats: Any = None
    kept: list[np.ndarray] = []
    notes: tuple[str, ...] = ()
    try:
        for begins, frame in frames_from(span, "audio", LOOKBACK):
            if begins >= end + SLACK:
                break
            read_to = begins + frame.samples / _checked(frame.sample_rate)
            rate = rate or frame.sample_rate
            pieces: list[Any] = []
            if form != (frame.format.name, frame.layout.name, frame.sample_rate):  # they may change in the middle
                form = frame.format.name, frame.layout.name, frame.sample_rate
                pieces = floats.resample(None) if floats else []
                # Floats, whatever the file holds, of one rate. Not in planes: of a 9th PyAV reads what is not its own.
                floats = av.AudioResampler(format="flt", layout=frame.layout, rate=rate)
            samples = _mean([*pieces, *floats.resample(frame)])
            if not kept:
                first = round((start - begins) * rate)
                first = 0 if -SLACK * rate < first < 0 else first  # less: the recording has nothing at the start
            if kept or first < len(samples):
                kept.append(samples)
        else:
            notes = ending(span, read_to, duration(span.path, "audio"), "its container names")
    except av.error.FFmpegError as error:  # of the resampler
        raise UnreadableError(f"it is broken ({error.strerror})") from error
    except UnreadableError as error:
        if not kept or not error.lasting:
            raise
        notes = (f"it is broken after {read_to:.2f} s; what comes before is used",)
    if not kept:
        raise UnreadableError(f"there is no sound {_where(span)}")
    # Counted from the start: times are rounded, in some containers to a millisecond, which would add up.
    last = None if math.isinf(end) else max(first + round((end - start) * rate), 0)
    samples = np.concatenate([*kept, _mean(floats.resample(None))])[max(first, 0) : last]
    peak = float(np.abs(samples[np.isfinite(samples)]).max(initial=0))
    return Heard(samples, rate, peak, notes)


def _mean(pieces: Sequence[Any]) -> np.ndarray:
    """Returns the mean of the channels of frames of packed floats, one after the other, float64 [samples]."""
    parts = (piece.to_ndarray().reshape(-1, piece.layout.nb_channels).mean(1, dtype=np.float64) for piece in pieces)
    return np.concatenate([np.zeros(0), *parts])


def _where(span: Span) -> str:
    if span.start is None and span.end is None:
        return "in it"
    return f"from {span.start or 0:g} s to {'its end' if span.end is None else f'{span.end:g} s'}"
