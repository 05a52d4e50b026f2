"""Ends connections that wait too long: for the head of a request, or for a client that takes its answer.

Uvicorn gives neither a time. Here every connection looks at itself once in a while, and ends when its client has had
the time that the limits give; and no more are open than the limits allow.
"""

import json
from asyncio import BaseTransport, TimerHandle
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from cmath_jax.serve.limits import Limits

GRACE = 5  # seconds, beyond those of a request, until a connection that does not end is cut
LOOKS = 20  # of a connection at itself, in the time that it may be behind


def configured(app: Any, limits: Limits) -> uvicorn.Config:
    """Returns the settings of a server whose connections keep to the limits."""

    class Limited(Connection):
        def __init__(self, *args: Any, **others: Any) -> None:
            super().__init__(*args, **others)
            self.limits = limits
            self.count = app.state.count_connection

    return uvicorn.Config(
        app,
        http=Limited,
        ws="none",
        log_config=None,
        log_level="error",  # its warnings are about what clients do: that is answered and counted
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=int(limits.seconds) + GRACE,
    )


class Connection(H11Protocol):
    """A connection of HTTP/1.1.

    Attributes:
      count: is told why a connection was ended by the server.
    """

    limits: Limits
    count: Callable[[str], None]
    _timer: TimerHandle | None = None
    _since = 0.0  # when it began to wait for a request
    _left = 0  # bytes of answers that the client had not taken at the last look
    _looked = 0.0
    _until: float | None = None  # when the client has to have taken more; None: it has taken all
    _latest = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._since = self._looked = self.loop.time()
        if len(self.connections) > self.limits.connections:
            self._make_room()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request of HTTP."""
        self.count("garbled")
        self._refuse(400, "this is no request of HTTP/1.1")
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application has nobody to answer any more

    @property
    def waits(self) -> bool:
        """Returns whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        now = self.loop.time()
        if self._may_stay(now):
            self._timer = self.loop.call_later(self.limits.stall_seconds / LOOKS, self._look)

    def _may_stay(self, now: float) -> bool:
        left = self.transport.get_write_buffer_size()
        if left:
            if self._until is None:
                self._until, self._latest = now + self.limits.stall_seconds, now + self.limits.transfer_seconds
            else:
                taken = max(0, self._left - left)
                latest = min(now + self.limits.stall_seconds, self._latest)
                self._until = min(self._until + taken / self.limits.min_rate, latest)
            self._left = left
            if now > self._until:
                self.count("answer not taken")
                self.transport.abort()
                return False
            return True
        if self._until is not None:
            self._until, self._left, self._since = None, 0, now
        if self.waits and now - self._since > self.limits.head_seconds:
            self._end()
        return True

    def _end(self) -> None:
        """Ends a connection that is without a request."""
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0] and self.conn.their_state is h11.IDLE:
            self.count("head too slow")
            self._refuse(408, f"the head of the request has not come within {self.limits.head_seconds:g} seconds")
        else:
            self.count("idle")
            self.transport.abort()

    def _make_room(self) -> None:
        waiting = [
            each for each in self.connections if each is not self and isinstance(each, Connection) and each.waits
        ]
        longest = min(waiting, key=lambda each: each._since, default=self)
        longest.count("too many connections")
        if longest is self:
            self._refuse(503, f"{self.limits.connections} connections are open already; ask again later")
        else:
            longest.transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answers instead of the application, and closes."""
        if self.transport.is_closing():
            return
        body = json.dumps({"error": message}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        try:
            for event in (
                h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer is out already, and there is no place for another
        self.transport.close()
