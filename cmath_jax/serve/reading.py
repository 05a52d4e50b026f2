"""Limits the bodies of requests on their way: how many at once, how large, and how slow they may be.

A client that sends nothing, or a byte now and then, costs a place among the bodies and none among the predictions. When
the places are taken, the newcomer gets that of the client that is furthest behind.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from starlette.requests import Request

from cmath_jax.serve.limits import Limits, Refused

WRITERS = 4  # threads that write recordings to files
PATIENCE = 0.5  # seconds that a client may be behind before its place is given to another


@dataclass(eq=False)
class Body:
    """A body that is being read.

    Attributes:
      scope: is cancelled where the body comes too slowly; its deadline moves with every byte.
      began: when, in seconds of the event loop.
      received: bytes.
      pushed: whether another got its place.
    """

    scope: anyio.CancelScope
    began: float
    received: int = 0
    pushed: bool = False


class Reading:
    """The bodies of one kind that are being read.

    Args:
      most: bodies at once.
      most_bytes: of one body.

    Attributes:
      writing: limits the threads that store what has come.
    """

    def __init__(self, most: int, most_bytes: int, limits: Limits) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._limits = limits
        self._bodies: set[Body] = set()
        # Threads of their own, so that nobody's body waits for the decoding of another's recordings.
        self.writing = anyio.CapacityLimiter(WRITERS)

    def __len__(self) -> int:
        return len(self._bodies)

    @contextmanager
    def place(self) -> Iterator[Body]:
        """Holds a place for a body. Raises Refused: 503 there is none, 408 the body comes too slowly."""
        self._make_room()
        now = anyio.current_time()
        first = now + min(self._limits.stall_seconds, self._limits.transfer_seconds)
        body = Body(anyio.CancelScope(deadline=first), now)
        self._bodies.add(body)
        try:
            with body.scope:
                yield body
        finally:
            self._bodies.discard(body)
        if body.scope.cancelled_caught:
            raise Refused(408, self._too_slow(body))

    async def chunks(self, request: Request, body: Body) -> AsyncIterator[bytes]:
        """Yields the bytes as they come. Raises Refused (413) once there are too many, or they are announced."""
        message = f"the body has more than {self._most_bytes} bytes"
        announced = request.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and (len(announced) > 15 or int(announced) > self._most_bytes):
            raise Refused(413, message)
        async for chunk in request.stream():
            body.received += len(chunk)
            if body.received > self._most_bytes:
                raise Refused(413, message)
            self._extend(body, len(chunk))
            yield chunk

    def _extend(self, body: Body, received: int) -> None:
        """Moves the deadline of a body: every byte gives time.

        But nobody saves up more than `stall_seconds`, or stays longer than `transfer_seconds`.
        """
        earned = body.scope.deadline + received / self._limits.min_rate
        latest = min(anyio.current_time() + self._limits.stall_seconds, body.began + self._limits.transfer_seconds)
        body.scope.deadline = min(earned, latest)

    def _make_room(self) -> None:
        if len(self._bodies) < self._most:
            return
        slowest = min(self._bodies, key=lambda body: body.scope.deadline)
        left = slowest.scope.deadline - anyio.current_time()
        if left > self._limits.stall_seconds - PATIENCE:
            raise Refused(503, f"{len(self._bodies)} requests are being received already; ask again later")
        slowest.pushed = True
        slowest.scope.cancel()
        self._bodies.discard(slowest)

    def _too_slow(self, body: Body) -> str:
        seconds = anyio.current_time() - body.began
        came = f"the body came too slowly: {body.received} bytes in {seconds:.1f} seconds"
        if body.pushed:
            return f"{came}, while others waited; send it again"
        if seconds >= self._limits.transfer_seconds:
            return f"{came}, and it may take {self._limits.transfer_seconds:g} seconds"
        return f"{came}; send {self._limits.min_rate} bytes a second at least"
