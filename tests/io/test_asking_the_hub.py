"""What goes wrong when the Hugging Face hub is asked is told in one line; a mistake of ours is not hidden by it."""

import importlib
from typing import Any

import pytest

from cmath_jax.errors import InputError
from cmath_jax.io.hub import asking

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
CONSTANTS: Any = importlib.import_module("huggingface_hub.constants")
ERRORS: Any = importlib.import_module("huggingface_hub.errors")
HTTP: Any = importlib.import_module(ERRORS.HfHubHTTPError.__bases__[0].__module__)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONSTANTS, "HF_HUB_OFFLINE", False)
    monkeypatch.delattr(hub, "errors", raising=False)  # it is there only where something has imported it


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("no route\nand more"), r"was asked for it in vain \(no route\)"),
        (HTTP.HTTPError("no answer"), r"was asked for it in vain \(no answer\)"),
        (HTTP.InvalidURL("Invalid port: 'x'"), r"was asked for it in vain \(Invalid port: 'x'\)"),
        (ValueError(), r"was asked for it in vain \(ValueError\)"),
        (ERRORS.HFValidationError("no name"), "has none of that name, or does not show it"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_goes_wrong_is_one_line(error: Exception, words: str) -> None:
    for advice, end in (("", ""), ("try another", "; try another")):
        with pytest.raises(InputError, match=rf"^nothing here; \S+ {words}{end}$"), asking("nothing here", advice):
            raise error


def test_it_is_not_asked_where_that_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONSTANTS, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^nothing here; .*HF_HUB_OFFLINE$"), asking("nothing here"):
        pytest.fail("it was asked")


def test_a_mistake_of_ours_stays_one() -> None:
    with pytest.raises(KeyError), asking("nothing here"):
        raise KeyError("nme")
