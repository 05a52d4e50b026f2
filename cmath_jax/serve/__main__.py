"""The command line: `python -m cmath_jax.serve --checkpoint DIR [--host NAME] [--port N] [limits]`."""

import argparse
import importlib
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from cmath_jax.errors import InputError, Terminated, doing, installs
from cmath_jax.io.command import Parser, answer, tell
from cmath_jax.io.termination import Termination
from cmath_jax.serve.limits import Limits

if TYPE_CHECKING:
    from cmath_jax.serve.batching import PredictorInterface

LOCAL = ("localhost", "127.0.0.1", "[::1]")
PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "soundfile")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 was asked to stop, 1 failed, 2 bad input."""
    return answer(lambda: _serve(arguments))


def _serve(arguments: Sequence[str] | None) -> None:
    with Termination() as termination, suppress(Terminated, KeyboardInterrupt):  # the usual ways to stop it
        options = _options(arguments)
        limits = Limits.of(options)
        with _bound(options.host, options.port) as listener, doing("serving", options.checkpoint):
            predictor = _ready(options.checkpoint, limits)
            with termination.deferred():
                run(predictor, limits, listener, (*LOCAL, _named(options.host), *options.allowed_host))


def run(predictor: "PredictorInterface", limits: Limits, listener: socket.socket, hosts: Sequence[str]) -> None:
    """Answers requests until SIGTERM or SIGINT; then what is under way is finished first."""
    import uvicorn

    from cmath_jax.serve.app import create_app
    from cmath_jax.serve.connections import configured
    from cmath_jax.serve.log import set_up

    set_up()
    config = configured(create_app(predictor, limits, {host.lower() for host in hosts}), limits)
    host, port = listener.getsockname()[:2]
    listener.listen(config.backlog)
    tell(f"serving on http://{_named(host)}:{port}")
    uvicorn.Server(config).run(sockets=[listener])


def _named(host: str) -> str:
    """Returns a host as a URL names it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m cmath_jax.serve", description="A page to try a trained model, and its JSON API.")
    parser.add_argument(
        *("--checkpoint", "--model"),
        metavar="DIR",
        required=True,
        help="a run folder, the folder model in it, or USER/NAME of a model on the Hugging Face hub",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default 127.0.0.1, this machine")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0 takes one that is free")
    parser.add_argument(
        "--allowed-host",
        metavar="NAME",
        action="append",
        default=[],
        help="another name under which clients reach the server, as behind a proxy; * is any",
    )
    Limits.add_options(parser)
    return parser.parse_args(arguments)


def _bound(host: str, port: int) -> socket.socket:
    """Returns a socket that holds the address and does not listen yet. Raises InputError."""
    bound: socket.socket | None = None
    if not 0 <= port < 2**16:
        raise InputError(f"--port {port} is not one of 0 to {2**16 - 1}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, UnicodeError) as error:
        if bound is not None:
            bound.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--host {host} --port {port}: cannot listen there: {reason}") from error
    return bound


def _ready(checkpoint: str, limits: Limits) -> "PredictorInterface":
    """Returns a predictor that answers at once.

    Raises InputError for a checkpoint that cannot be read, or not be served.
    """
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(f"{name} is not installed: {installs('serve')}") from error
    from cmath_jax.prediction.predictor import Predictor
    from cmath_jax.serve.warmup import warm_up
    from cmath_jax.training.compiler import check_platform

    check_platform()
    predictor = Predictor.load(checkpoint)
    tell(f"{checkpoint}: getting ready")
    warm_up(predictor, limits)
    return predictor


if __name__ == "__main__":
    sys.exit(main())
