"""Defines the application: its routes, and what happens to a request on its way to the model and back."""

import contextlib
import shutil
import tempfile
from asyncio import wrap_future
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from cmath_jax.data.sources.schema import Transcript
from cmath_jax.errors import InputError, reason
from cmath_jax.io.places import placed
from cmath_jax.serve import forms, page, requests, schema
from cmath_jax.serve.batching import Batcher, PredictorInterface
from cmath_jax.serve.guard import Guard
from cmath_jax.serve.limits import Limits, Refused, TooLargeError
from cmath_jax.serve.measures import Measures
from cmath_jax.serve.reading import Reading

_REFUSALS: Mapping[int | str, Any] = {
    400: {"model": schema.Error, "description": "The body cannot be read."},
    408: {"model": schema.Error, "description": "The body comes too slowly."},
    413: {"model": schema.Error, "description": "It is more than the server accepts."},
    415: {"model": schema.Error, "description": "The content type is another."},
    422: {"model": schema.Error, "description": "A conversation cannot be used; the error names the place."},
    503: {"model": schema.Error, "description": "Too busy, or too slow; ask again."},
}


def create_app(predictor: PredictorInterface, limits: Limits, hosts: Collection[str]) -> FastAPI:
    """Returns the application around a predictor; `hosts` are the names under which it answers."""
    server = _Server(predictor, limits)
    app = FastAPI(title="cmath_jax", docs_url=None, redoc_url=None, openapi_url=None, lifespan=server.lifespan)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(InputError, _unusable)
    app.add_exception_handler(HTTPException, _no_route)
    _add_pages(app, server)
    _add_api(app, server)
    app.state.count_connection = server.measures.connection
    counted = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(Guard, hosts=frozenset(hosts), paths=counted, count=server.measures.request)
    return app


class _Server:
    """The state that the routes share while the application runs."""

    batcher: Batcher
    folder: Path

    def __init__(self, predictor: PredictorInterface, limits: Limits) -> None:
        self.predictor = predictor
        self.limits = limits
        self.measures = Measures()
        self._bodies = Reading(limits.bodies, limits.body_bytes, limits)
        self._forms = Reading(limits.uploads, limits.upload_bytes, limits)
        self._in_flight = 0

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory(prefix="cmath_serve_", ignore_cleanup_errors=True) as folder:
            self.folder = Path(folder).resolve()
            # One folder for all, so that requests with recordings can be computed together, too.
            predict = partial(self.predictor.predict, folder=self.folder)
            self.batcher = Batcher(predict, self.limits.batch_utterances, self.measures.batch)
            self.measures.read_from(
                lambda: len(self._bodies) + len(self._forms), lambda: self._in_flight, lambda: self.batcher.waiting
            )
            yield
            self.batcher.close(self.limits.seconds)

    @property
    def ill(self) -> str | None:
        """Returns why nothing can be predicted; None if it can."""
        if not self.batcher.alive:
            return "the predictor has stopped"
        if self.batcher.busy_seconds() > self.limits.seconds:
            return f"the predictor has been busy for {self.batcher.busy_seconds():.0f} s with the same call"
        return None

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts a request in whose body is there, and limits its time. Raises Refused (503)."""
        if self._in_flight >= self.limits.requests:
            raise Refused(503, f"{self._in_flight} requests are under way or wait already; ask again later")
        self._in_flight += 1
        try:
            with anyio.fail_after(self.limits.seconds):
                yield
        except TimeoutError:
            raise Refused(503, f"no answer within {self.limits.seconds:g} seconds; ask again later") from None
        finally:
            self._in_flight -= 1

    async def predict(self, request: Request) -> Any:
        body = await requests.read_json(request, self._bodies)
        with self.admitted():
            transcripts = requests.conversations(requests.decoded(body), self.limits)
            return await self._answers(transcripts, self.batcher.submit(transcripts))

    async def predict_with_audio(self, request: Request) -> Any:
        if "a" not in self.predictor.raw:
            raise Refused(422, "this model makes nothing of a recording; send the text to /api/predict")
        folder = self._new_folder()
        forget = partial(shutil.rmtree, folder, ignore_errors=True)
        with contextlib.ExitStack() as undo:
            undo.callback(forget)
            form = await requests.read_form(request, self._forms, folder, self.limits)
            with self.admitted():
                transcript, names = await anyio.to_thread.run_sync(requests.with_audio, form, folder, self.limits)
                futures = self.batcher.submit([transcript])
                # Not before the model has read them, even if the client has been told meanwhile to ask later.
                undo.pop_all()
                futures[0].add_done_callback(lambda _: forget())
                return await self._answers([transcript], futures, names)

    def _new_folder(self) -> Path:
        try:
            return Path(tempfile.mkdtemp(dir=self.folder))
        except OSError as error:
            raise Refused(503, f"the server cannot store recordings now ({reason(error)}); ask again later") from error

    async def _answers(
        self,
        transcripts: Sequence[Transcript],
        futures: Sequence["Future[list[Any]]"],
        names: Mapping[str, str] | None = None,
    ) -> Any:
        """Waits for the predictions of conversations and writes them down, files under the names that the client knows.

        Args:
          names: path of a recording -> its name.

        Raises:
          InputError: what the predictor raised for the first conversation that it could not use.
        """
        names = names or {}
        answer = []
        count = 0
        try:
            for i, (transcript, future) in enumerate(zip(transcripts, futures, strict=True)):
                with placed(conversation=i):
                    predictions = [each.to_dict() for each in await self._found(future, names)]
                for prediction in predictions:
                    prediction["warnings"] = [self._renamed(words, names) for words in prediction["warnings"]]
                    count += len(prediction["warnings"])
                answer.append({"id": transcript.id, "predictions": predictions})
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        self.measures.warnings(count)
        return JSONResponse({"conversations": answer})

    async def _found(self, future: "Future[list[Any]]", names: Mapping[str, str]) -> list[Any]:
        try:
            return await wrap_future(future)
        except InputError as error:
            mended = type(error)(self._renamed(str(error), names))
            mended.utterance = error.utterance
            mended.reason = error.reason and self._renamed(error.reason, names)
            raise mended from error

    def _renamed(self, words: str, names: Mapping[str, str]) -> str:
        """Returns words with the names that the client knows in the place of the paths of the server."""
        for path, name in names.items():
            words = words.replace(str(self.folder / path), name).replace(path, name)
        return words

    def model(self) -> dict[str, Any]:
        """Returns facts about the model and the limits, ready for JSON."""
        return {
            "classes": list(self.predictor.classes),
            "modalities": self.predictor.modalities,
            "raw": self.predictor.raw,
            "limits": dict(self.limits.facts()),
            "card": dict(self.predictor.card),
        }


def _add_pages(app: FastAPI, server: _Server) -> None:
    html = page.render(server.model())

    @app.get("/", include_in_schema=False)
    async def home() -> Response:
        return HTMLResponse(html)

    app.add_api_route("/style.css", _file(page.style(), "text/css"), include_in_schema=False)
    for name, script in page.scripts().items():
        app.add_api_route(f"/{name}", _file(script, "text/javascript"), include_in_schema=False)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        described = get_openapi(title=app.title, version="1", description=page.API, routes=app.routes)
        described["components"]["schemas"] |= schema.request_schemas()
        return JSONResponse(described)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(server.measures.text(), media_type=CONTENT_TYPE_LATEST)


def _file(content: str, kind: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=kind)

    return answer


def _add_api(app: FastAPI, server: _Server) -> None:
    spoken = {forms.CONVERSATION: schema.reference("SpokenConversation")}
    files = {forms.FILES: {"type": "array", "items": {"type": "string", "format": "binary"}}}
    form = {"type": "object", "required": [forms.CONVERSATION], "properties": spoken | files}
    answers: dict[int | str, Any] = {200: {"model": schema.Answer}, **_REFUSALS}

    @app.post("/api/predict", responses=answers, openapi_extra=_body(requests.JSON, schema.reference("Conversations")))
    async def predict(request: Request) -> Response:
        """Returns the emotion of every utterance of some conversations."""
        return await server.predict(request)

    @app.post("/api/predict-with-audio", responses=answers, openapi_extra=_body(requests.FORM, form))
    async def predict_with_audio(request: Request) -> Response:
        """Returns the emotion of every utterance of a conversation with recordings."""
        return await server.predict_with_audio(request)

    @app.get("/api/model", responses={200: {"model": schema.Model}})
    async def model() -> Response:
        """Returns what the model is, what it can, and the limits of a request."""
        return JSONResponse(server.model())

    @app.get("/health", responses={200: {"model": schema.Health}, 503: {"model": schema.Health}})
    async def health() -> Response:
        """Returns whether the server can predict."""
        ill = server.ill
        return JSONResponse({"status": ill or "ok"}, 503 if ill else 200)


def _body(kind: str, described: Mapping[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {kind: {"schema": described}}}}


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": str(error)}, error.status, {"Retry-After": "1"} if error.status == 503 else None)


def _unusable(request: Request, error: Exception) -> Response:
    """Answers with what was wrong and, as far as it is known, where."""
    assert isinstance(error, InputError)
    place = {
        "reason": error.reason,
        "conversation": error.conversation,
        "utterance": error.utterance,
        "file": error.recording,
    }
    known = {name: value for name, value in place.items() if value is not None}
    return JSONResponse({"error": str(error), **known}, 413 if isinstance(error, TooLargeError) else 422)


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)
