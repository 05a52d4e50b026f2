"""Checks every request: whom it is for, where it comes from, what its answer forbids; and counts it."""

import logging
import time
from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # With no-referrer some browsers would hide from the server that it is its own page that asks.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CLIENT_LEFT = 499  # no status of HTTP, but what servers count such requests under
_LOGGER = logging.getLogger(__name__)


class Guard:
    """The ASGI middleware that all requests go through.

    Args:
      hosts: names under which the server answers, and whose pages may ask; "*" is any, and then the page has to be of
        the name that is asked. Others would let a page of a stranger, whose name was made to point here, read the
        answers.
      paths: those that are counted by name.
      count: is told path, status and seconds.
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str], paths: Collection[str], count: Callable[[str, int, float], None]
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._paths = paths
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            answer = self._refusal(scope) or self._app
            await answer(scope, receive, send_guarded)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except Exception:
            # The path of a client may say anything.
            _LOGGER.exception("%s failed", scope["path"] if scope["path"] in self._paths else "a request")
            if status:
                raise  # half of an answer is out: only the connection can tell
            await JSONResponse({"error": "the server failed; its log says why"}, 500)(scope, receive, send_guarded)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._count(path, status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if "*" not in self._hosts and _without_port(host) not in self._hosts:
            message = f"this server does not answer for the host {host[:100]!r}; --allowed-host NAME lets it"
            return JSONResponse({"error": message}, 400)
        if scope["method"] == "POST" and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return JSONResponse({"error": "a page of another site may not ask"}, 403)
        # Not all browsers say how a page and the server are related, but all name the page where it is another's.
        for origin in headers.getlist("origin"):
            _, named, place = origin.partition("://")
            if not named or _without_port(place) not in {*self._hosts, _without_port(host)}:
                message = f"a page of {origin[:100]!r} may not ask; --allowed-host NAME lets the pages of a host"
                return JSONResponse({"error": message}, 403)
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
