"""A server for the tests of a module, and its page in a browser; with another `url` a module has another server."""

from collections.abc import Iterator
from typing import Any

import pytest
import serve_samples as samples
from serve_samples import LIMITS, served


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[samples.StandIn, str]]:
    model = samples.StandIn()
    with served(model, LIMITS) as url:
        yield model, url


@pytest.fixture
def model(running: tuple[samples.StandIn, str]) -> samples.StandIn:
    """The model of the server, which has computed nothing in this test yet."""
    model, _ = running
    model.batches.clear()
    model.before = lambda batch: None
    return model


@pytest.fixture
def url(running: tuple[samples.StandIn, str], model: samples.StandIn) -> str:
    return running[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    import browsers  # skips where there is no browser, and not all tests here need one

    with browsers.chromium() as browser:
        yield browser


@pytest.fixture
def desk(browser: Any, url: str) -> Iterator[Any]:
    """The page on a desk, with which nothing may go wrong."""
    import browsers

    page, wrong = browsers.opened(browser, url)
    yield page
    page.close()
    assert wrong == []
