"""Defines how much one request may ask for, and how a request is refused."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cmath_jax.errors import InputError


class Refused(Exception):  # noqa: N818 - it is an answer
    """A request that is not served.

    Attributes:
      status: of HTTP, 4xx for what the client can mend, 503 for what passes.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TooLargeError(InputError):
    """The error of a request that is larger than the server accepts; it answers 413."""


def _limit(default: float, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Limits:
    """The limits of the server, each an option of the command line. Raises InputError for one that is not positive."""

    body_bytes: int = _limit(2**20, "bytes of JSON in a request")
    conversations: int = _limit(64, "conversations in a request")
    utterances: int = _limit(256, "utterances in a conversation")
    characters: int = _limit(2000, "characters in each text of an utterance")
    upload_bytes: int = _limit(32 * 2**20, "bytes of a request with recordings")
    audio_seconds: float = _limit(300.0, "seconds of all recordings of a request together")
    requests: int = _limit(64, "requests that wait or are computed; one more is answered 503")
    seconds: float = _limit(30.0, "seconds from the last byte of a request until it is answered 503")
    batch_utterances: int = _limit(512, "utterances that are computed in one go")
    bodies: int = _limit(256, "bodies of JSON that are on their way; for one more the slowest is given up")
    uploads: int = _limit(64, "requests with recordings that are on their way; for one more the slowest is given up")
    min_rate: int = _limit(8000, "bytes a second at which a client has to send and to take")
    stall_seconds: float = _limit(5.0, "seconds that a client may be behind this rate")
    transfer_seconds: float = _limit(120.0, "seconds that a body, or an answer, may be on its way")
    head_seconds: float = _limit(10.0, "seconds that a connection may be open without a request")
    connections: int = _limit(512, "connections; for one more the one that has waited longest is closed")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise InputError(f"{_option(name)} {value} is not a positive number")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("limits")
        for each in fields(cls):
            text = f"{each.metadata['help']}; default {each.default}"
            group.add_argument(
                _option(each.name), type=type(each.default), default=each.default, help=text, metavar="N"
            )

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Limits":
        given = vars(options)
        return cls(**{each.name: given[_option(each.name).lstrip("-").replace("-", "_")] for each in fields(cls)})

    def facts(self) -> Mapping[str, float]:
        return vars(self)


def _option(name: str) -> str:
    return f"--{name if name.startswith('min_') else f'max_{name}'}".replace("_", "-")
