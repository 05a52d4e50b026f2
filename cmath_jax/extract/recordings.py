"""Makes a result of each recording: by several processes, each computed once, none of them fatal.

What a recording gives depends on its bytes, not on its name, so that equal bytes and spans are read once.
"""

import hashlib
import multiprocessing
import os
import signal
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError, reason
from cmath_jax.extract.cache import Cache, Found, Missing, Result
from cmath_jax.extract.interface import Execution, Extracted, Problem
from cmath_jax.extract.progress import Counter
from cmath_jax.extract.weights import hash_of

LATE = 0.1  # seconds: by less the end of a cut may be rounded, or the end of a stream


class UnreadableError(Exception):
    """The error of a recording, or of an utterance's span, that gives nothing.

    Its message is read after the file's name.

    Attributes:
      lasting: whether the same bytes will always give nothing; not so where the system failed, or lacks a decoder.
    """

    def __init__(self, message: str, lasting: bool = True) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(frozen=True)
class Span:
    """A part of a recording, in seconds; without a start from its beginning, without an end to its end."""

    path: Path
    start: float | None
    end: float | None


@dataclass(frozen=True)
class SpanContent:
    """The pictures or the sound of a span.

    Attributes:
      content: of the span.
      notes: what its user should know, each to be read after the name of the recording.
    """

    content: Any
    notes: tuple[str, ...] = ()


Read = Callable[[Span], SpanContent]  # raises UnreadableError


def ending(span: Span, read_to: float, named: float | None, where: str, cut: bool = False) -> tuple[str, ...]:
    """Returns what has to be said where a span goes on beyond the end of its recording.

    Args:
      read_to: seconds that could be read.
      named: seconds that should be there, if that is known.
      where: what names them.
      cut: whether the recording is known to break off.
    """
    if span.end is not None and span.end <= read_to + LATE:
        return ()
    if named is not None and named > read_to + LATE:
        return (f"it ends after {read_to:.2f} s where {where} {named:.2f} s: it was cut off; what is there is used",)
    if cut and named is None:
        return (f"it breaks off after {read_to:.2f} s; what is there is used",)
    if span.end is None:
        return ()
    return (f"it ends after {read_to:.2f} s, before the end of the cut at {span.end:g} s; what is there is used",)


def extract(
    transcripts: Sequence[Transcript],
    recording: Callable[[Utterance], str | None],
    folder: Path,
    make: Callable[[], Read],
    finish: Callable[[Any], np.ndarray],
    dim: int,
    cache: Cache,
    execution: Execution,
    name: str,
) -> Extracted:
    """Returns the vectors of all utterances.

    Args:
      recording: the path of an utterance's recording, or None.
      folder: that relative paths start from.
      make: gives each process its own way to read a span; it must be a function of a module, or a partial of one.
      finish: makes a vector [dim] of what was read, in this process.
      name: of the modality, for the progress.
    """
    digests: dict[Path, str | Missing] = {}
    places: dict[tuple[int, int], tuple[str, str]] = {}  # conversation, utterance -> key, and path as it is given
    results: dict[str, Result] = {}
    todo: dict[str, Span] = {}
    for c, transcript in enumerate(transcripts):
        for u, utterance in enumerate(transcript.utterances):
            given = recording(utterance)
            if given is None:
                continue
            path = folder / given
            if path not in digests:
                digests[path] = _digest(path)
            digest = digests[path]
            key = hash_of([str(path if isinstance(digest, Missing) else digest), f"{utterance.start} {utterance.end}"])
            places[c, u] = key, given
            if isinstance(digest, Missing):
                results[key] = digest
            elif key not in results and key not in todo:
                kept = cache.get(key)
                if kept is None:
                    todo[key] = Span(path, utterance.start, utterance.end)
                else:
                    results[key] = kept
    with Counter(name, len(todo), execution.progress) as counter:
        for key, read in _read_all(todo, make, execution.workers):
            results[key] = read if isinstance(read, Missing) else Found(finish(read.content), read.notes)
            cache.put(key, results[key])
            counter.add(1)
    return _collect(transcripts, places, results, dim)


def _collect(
    transcripts: Sequence[Transcript],
    places: Mapping[tuple[int, int], tuple[str, str]],
    results: Mapping[str, Result],
    dim: int,
) -> Extracted:
    features = [np.full((len(transcript), dim), np.nan, np.float32) for transcript in transcripts]
    problems = []
    for (c, u), (key, given) in places.items():
        result = results[key]
        if isinstance(result, Missing):
            problems.append(Problem(c, u, result.reason, given))
        else:
            features[c][u] = result.vector
            problems += [Problem(c, u, note, given, used=True) for note in result.notes]
    return Extracted(features, problems)


def _digest(path: Path) -> str | Missing:
    """Returns a hash of the bytes of a file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device might be read for ever
            return Missing("cannot be read: it is no regular file", lasting=False)
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return Missing(f"cannot be read: {reason(error)}", lasting=False)
    except ValueError as error:  # a name that no file can have
        return Missing(f"cannot be read: {error}", lasting=False)


# Several processes.

_read: Read  # of this process


def _read_all(
    todo: Mapping[str, Span], make: Callable[[], Read], workers: int
) -> Iterator[tuple[str, SpanContent | Missing]]:
    """Yields what the spans give, or `Missing`, in the order in which they are done."""
    if not todo:
        return
    if workers == 0:
        read = make()
        for key, span in todo.items():
            yield key, _attempt(read, span)
        return
    waiting = dict(todo)
    while waiting:
        suspects: dict[str, Span] = {}
        yield from _by_pool(waiting, suspects, make, workers)
        # A process was killed, by a defect in a library or for want of memory: which of them it was is tried out.
        for key, span in suspects.items():
            alone, dead = {key: span}, dict[str, Span]()
            yield from _by_pool(alone, dead, make, 1)
            if alone or dead:
                yield key, Missing("the process that read it was killed", lasting=False)


def _by_pool(
    waiting: dict[str, Span], suspects: dict[str, Span], make: Callable[[], Read], workers: int
) -> Iterator[tuple[str, SpanContent | Missing]]:
    """Yields what is read of the spans in `waiting`, and takes them out of it.

    Where a process dies, `waiting` keeps the spans that were not begun, and `suspects` gets those that were.
    """
    # PyTorch and JAX have threads, which a forked process would not survive.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(waiting)), context, partial(_begin, make))
    running: dict[Future[Any], tuple[str, Span]] = {}
    try:
        while waiting or running:
            # So few at once that what was read does not pile up before it is finished.
            while waiting and len(running) < 2 * workers:
                key, span = next(iter(waiting.items()))
                running[pool.submit(_attempt_here, span)] = key, span
                del waiting[key]  # not before: where a process has just died, nothing can be submitted
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running[future][0], future.result()
                del running[future]
    except BrokenProcessPool:
        suspects |= dict(running.values())
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(make: Callable[[], Read]) -> None:
    global _read
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    _read = make()


def _attempt_here(span: Span) -> SpanContent | Missing:
    return _attempt(_read, span)


def _attempt(read: Read, span: Span) -> SpanContent | Missing:
    try:
        return read(span)
    except UnreadableError as error:
        return Missing(str(error), error.lasting)
    except InputError:  # about the program, as a package that is not installed, not about a recording
        raise
    except Exception as error:  # what a damaged file makes libraries raise is without end
        return Missing(f"it cannot be read ({type(error).__name__}: {error})", lasting=False)
