"""What the server counts and times, for Prometheus; one registry a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from serving.versions import Loaded

METHODS = ("Predict", "GetModelMetadata", "GetModelStatus", "Check")
"""Methods that are counted by name; the rest are counted together, so that no client can add labels at will."""

OTHER = "other"

CODES = (
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "INTERNAL",
)
"""Codes that the server itself answers; a model's own errors may bring others."""

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServingMetrics:
    """The server's metrics; those of known labels are there from the start, so that a rate sees the first event."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "earshot_serving_requests", "Requests answered.", ["method", "code"], registry=self.registry
        )
        self._latency = Histogram(
            "earshot_serving_request_seconds",
            "Seconds from a request's arrival to its answer.",
            ["method"],
            buckets=_LATENCY_S,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "earshot_serving_requests_in_flight", "Requests running or waiting.", ["method"], registry=self.registry
        )
        self._version = Gauge(
            "earshot_serving_loaded_version", "Version that is served; 0 for none.", ["model"], registry=self.registry
        )
        self._load = Gauge(
            "earshot_serving_load_seconds",
            "Seconds that the served version took to load and warm up.",
            ["model"],
            registry=self.registry,
        )
        for method in (*METHODS, OTHER):
            self._latency.labels(method)
            self._in_flight.labels(method)
            for code in CODES:
                self._requests.labels(method, code)

    def arrived(self, method: str) -> None:
        """Count one request as in flight."""
        self._in_flight.labels(_label(method)).inc()

    def answered(self, method: str, code: str, seconds: float) -> None:
        """Count one request by its method and gRPC status code, and as no longer in flight."""
        label = _label(method)
        self._in_flight.labels(label).dec()
        self._requests.labels(label, code).inc()
        self._latency.labels(label).observe(seconds)

    def loaded(self, model: str, loaded: Loaded | None) -> None:
        """Note which version of a model is served now."""
        self._version.labels(model).set(loaded.version if loaded is not None else 0)
        self._load.labels(model).set(loaded.load_s if loaded is not None else 0)


def _label(method: str) -> str:
    return method if method in METHODS else OTHER
