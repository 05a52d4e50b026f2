"""Reads the frames of a container of video or sound (mp4, mkv, ts and so on) from a time on."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cmath_jax.extract.packages import package
from cmath_jax.extract.recordings import Span, UnreadableError

# Seconds, before what is wanted. Some containers (MPEG-TS) have no index: a seek may end after its aim, or at a picture
# that needs one before it.
BACK = (0.0, 2.0, 10.0, 60.0)


def frames_from(span: Span, kind: str, lookback: float = 0.0) -> Iterator[tuple[float, Any]]:
    """Yields frames of PyAV and their times, in seconds from the beginning of the recording.

    The first is not later than the start of the span, where the recording has one then.

    Args:
      kind: `video` or `audio`; of several streams the first.
      lookback: about so many seconds before the start are decoded, too; at least half as many, where there are.

    Raises:
      UnreadableError: there is no such stream, or the recording is broken.
    """
    av = package("av")
    latest = (span.start or 0.0) - lookback / 2
    aims = [span.start - lookback - back for back in BACK] if span.start else []
    try:
        for aim in (*(aim for aim in aims if aim > 0), None):  # None: from the beginning
            with av.open(str(span.path)) as container:
                frames = _decoded(av, container, kind, aim)
                try:
                    first = next(frames, None)
                except av.error.FFmpegError:
                    if aim is None:
                        raise
                    continue  # it has sought into the middle of a packet
                if first is None or (aim is not None and (first[0] is None or first[0] > latest)):
                    continue
                for time, frame in _chained(first, frames):
                    if time is None:
                        raise UnreadableError("it is broken: a part of it has no time")
                    yield time, frame
                return
    except av.error.FFmpegError as error:
        raise UnreadableError(
            f"it is no recording, or a broken one ({error.strerror})",
            lasting=isinstance(error, av.error.InvalidDataError | av.error.EOFError),
        ) from error


def duration(path: Path, kind: str) -> float | None:
    """Returns the seconds that a container says its first stream of a kind has; None where it only guesses."""
    av = package("av")
    try:
        with av.open(str(path)) as container:
            [stream, *_] = getattr(container.streams, kind)
            if "mp4" in container.format.name:
                return None if stream.duration is None else float(stream.duration * stream.time_base)
            if "matroska" in container.format.name:
                hours, minutes, seconds = stream.metadata["DURATION"].split(":")
                return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except (av.error.FFmpegError, ValueError, KeyError):
        pass
    return None


def _decoded(av: Any, container: Any, kind: str, aim: float | None) -> Iterator[tuple[float | None, Any]]:
    streams = getattr(container.streams, kind)
    if not streams:
        raise UnreadableError({"video": "it has no pictures", "audio": "it has no sound"}[kind])
    if streams[0].codec_context is None:
        raise UnreadableError("FFmpeg, as it is installed, has no decoder for it", lasting=False)
    offset = max((container.start_time or 0) / av.time_base, 0.0)  # some containers do not begin at 0
    if aim is not None:
        with suppress(av.error.FFmpegError):  # what cannot seek is decoded from the beginning
            container.seek(int((aim + offset) * av.time_base))
    for frame in container.decode(streams[0]):
        yield None if frame.time is None else frame.time - offset, frame


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
