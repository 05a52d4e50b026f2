"""Cuts the face out of the frames of a video.

Faces are found by the Haar cascade inside OpenCV: old, fast, its weights in the package. It finds faces from the front
and misses most profiles. Of several faces the largest is taken, whoever speaks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cmath_jax.extract.containers import duration, frames_from
from cmath_jax.extract.packages import package
from cmath_jax.extract.recordings import Span, SpanContent, UnreadableError, ending

CASCADE = "haarcascade_frontalface_default.xml"
SMALLEST = 0.08  # of the shorter side of a frame: what is smaller is rarely a face
Finder = Callable[[np.ndarray], np.ndarray | None]  # uint8 [height, width, 3] -> a part of it, or None


def read_frames(span: Span, every: int, most: int) -> SpanContent:
    """Reads a list of uint8 [height, width, 3], RGB: every so many-th frame; of more than `most`, evenly fewer.

    Raises:
      UnreadableError: there is no frame, or the recording is broken.
    """
    kept: list[np.ndarray] = []
    count, stride, read_to = 0, every, 0.0
    notes: tuple[str, ...] = ()
    try:
        for time, frame in frames_from(span, "video"):
            read_to = time + float(frame.duration * frame.time_base if frame.duration else 0)
            if span.start is not None and time < span.start:
                continue
            if span.end is not None and time >= span.end:
                break
            if count % stride == 0:
                kept.append(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
                if len(kept) > most:  # how many there will be is not known before the last
                    kept, stride = kept[::2], 2 * stride
            count += 1
        else:
            notes = ending(span, read_to, duration(span.path, "video"), "its container names")
    except UnreadableError as error:
        if not kept or not error.lasting:
            raise
        notes = (f"it is broken after {read_to:.2f} s; what comes before is used",)
    if not kept:
        raise UnreadableError("there is no frame in it, or none in its span")
    return SpanContent(kept, notes)


def pictures(frames: Sequence[np.ndarray], find: Finder, side: int) -> np.ndarray:
    """Returns what is found in the frames, uint8 [faces, side, side, 3]. Raises UnreadableError where it is in none."""
    cv2 = package("cv2")
    found = [part for part in map(find, frames) if part is not None]
    if not found:
        raise UnreadableError(f"no face in {len(frames)} frames")
    scaled = [
        cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if len(part) > side else cv2.INTER_LINEAR)
        for part in found
    ]
    return np.stack(scaled)


def finder(face: str) -> Finder:
    """Returns what finds a face: `haar` takes the largest face, `centre` the largest square around the centre."""
    return centre if face == "centre" else largest_face(detector())


def detector() -> Any:
    """Returns OpenCV's classifier with its own cascade."""
    cv2 = package("cv2")
    cv2.setNumThreads(1)  # there are processes enough
    return cv2.CascadeClassifier(cv2.data.haarcascades + CASCADE)


def centre(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]


def largest_face(cascade: Any) -> Finder:
    """Returns a finder of the largest rectangle that the cascade detects."""

    def find(frame: np.ndarray) -> np.ndarray | None:
        cv2 = package("cv2")
        smallest = round(SMALLEST * min(frame.shape[:2]))
        grey = cv2.equalizeHist(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY))
        faces = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(smallest, smallest))
        if len(faces) == 0:
            return None
        left, top, width, height = max(faces, key=lambda face: (face[2] * face[3], *face))
        return frame[top : top + height, left : left + width]

    return find
