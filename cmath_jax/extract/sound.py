"""Sound files and sound tracks -> samples. Shapes: n samples, c channels.

soundfile reads what libsndfile knows (wav, flac, ogg, mp3), PyAV all else (mp4, m4a, mkv, webm).
"""

import math
from typing import Any

import numpy as np

from cmath_jax.extract.packages import package
from cmath_jax.extract.recordings import Span, UnreadableError

LOOKBACK = 1.0  # seconds: compressed sound is decoded from a little before the span, until the decoder has settled
SLACK = 0.01  # seconds, by which the times of a container may be wrong


def read_sound(span: Span, rate: int) -> np.ndarray:
    """float32 [n], the mean of all channels, in -1..1, so many samples a second. Raises UnreadableError."""
    soundfile = package("soundfile")
    try:
        file = soundfile.SoundFile(span.path)
    except soundfile.LibsndfileError:
        x_cn, native = _by_av(span)
    else:
        with file:
            x_cn, native = _by_soundfile(file, span)
    if x_cn.shape[1] == 0:
        raise UnreadableError(f"there is no sound {_where(span)}")
    x_n = x_cn.mean(0, dtype=np.float64)
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


def _by_soundfile(file: Any, span: Span) -> tuple[np.ndarray, int]:
    rate = file.samplerate
    start = round((span.start or 0) * rate)
    try:
        if start >= file.frames:
            raise UnreadableError(f"it ends after {file.frames / rate:.2f} s, {_where(span)} there is nothing")
        begin = max(start - round(LOOKBACK * rate), 0)
        file.seek(begin)
        count = -1 if span.end is None else max(round(span.end * rate) - begin, 0)
        x_nc = file.read(count, dtype="float32", always_2d=True)
        return x_nc[start - begin :].T, rate
    except package("soundfile").LibsndfileError as error:
        raise UnreadableError(f"it is broken ({error})") from error


def _by_av(span: Span) -> tuple[np.ndarray, int]:
    av = package("av")
    try:
        with av.open(str(span.path)) as container:
            if not container.streams.audio:
                raise UnreadableError("it has no sound")
            return _decoded(av, container, span)
    except av.error.FFmpegError as error:
        raise UnreadableError(f"it is no recording, or a broken one ({error.strerror})") from error


def _decoded(av: Any, container: Any, span: Span) -> tuple[np.ndarray, int]:
    stream = container.streams.audio[0]
    rate = stream.rate
    start, end = span.start or 0.0, math.inf if span.end is None else span.end
    offset = max((container.start_time or 0) / av.time_base, 0.0)  # some containers do not begin at 0
    if start > LOOKBACK:
        container.seek(int((start - LOOKBACK + offset) * av.time_base))
    # Planes of floats, whatever the file holds; the rate stays.
    planes = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
    kept: list[np.ndarray] = []
    first = 0
    for frame in container.decode(stream):
        if frame.pts is None:
            raise UnreadableError("it is broken: a piece of sound has no time")
        begins = float(frame.pts * frame.time_base) - offset
        if begins >= end + SLACK:
            break
        x_cn = np.concatenate([part.to_ndarray() for part in planes.resample(frame)], axis=1)
        if not kept:
            first = max(round((start - begins) * rate), 0)
        if kept or first < x_cn.shape[1]:
            kept.append(x_cn)
    if not kept:
        raise UnreadableError(f"there is no sound {_where(span)}")
    # Counted from the start: times are rounded, in some containers to a millisecond, which would add up.
    last = None if math.isinf(end) else first + round((end - start) * rate)
    return np.concatenate(kept, axis=1)[:, first:last], rate


def _where(span: Span) -> str:
    if span.start is None and span.end is None:
        return "in it"
    return f"from {span.start or 0:g} s to {'its end' if span.end is None else f'{span.end:g} s'}"
