"""Counts what the server does, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SIZES = tuple(2.0**i for i in range(11))
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Measures:
    """The counts of one server, in a registry of its own, so that several can live in a process."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        labels = ("path", "status")
        self._registry = registry
        self._requests = Counter("cmath_requests", "Requests by path and status", labels, registry=registry)
        self._seconds = Histogram(
            "cmath_request_seconds", "From the first byte to the last", ("path",), buckets=_SECONDS, registry=registry
        )
        self._conversations = Histogram(
            "cmath_batch_conversations", "Conversations in a call of the model", buckets=_SIZES, registry=registry
        )
        self._utterances = Histogram(
            "cmath_batch_utterances", "Utterances in a call of the model", buckets=_SIZES, registry=registry
        )
        self._warnings = Counter("cmath_warnings", "Warnings in answers, beside utterances", registry=registry)
        self._ended = Counter(
            "cmath_connections_ended", "Connections that the server ended, by reason", ("reason",), registry=registry
        )
        self._receiving = Gauge("cmath_requests_receiving", "Requests whose bodies are on their way", registry=registry)
        self._in_flight = Gauge("cmath_requests_in_flight", "Predictions that were asked for", registry=registry)
        self._queue = Gauge("cmath_queue_length", "Conversations whose turn has not come", registry=registry)

    def read_from(
        self, receiving: Callable[[], float], in_flight: Callable[[], float], queue: Callable[[], float]
    ) -> None:
        self._receiving.set_function(receiving)
        self._in_flight.set_function(in_flight)
        self._queue.set_function(queue)

    def request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, conversations: int, utterances: int) -> None:
        self._conversations.observe(conversations)
        self._utterances.observe(utterances)

    def connection(self, reason: str) -> None:
        self._ended.labels(reason).inc()

    def warnings(self, count: int) -> None:
        self._warnings.inc(count)

    def text(self) -> bytes:
        return generate_latest(self._registry)
