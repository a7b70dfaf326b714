"""What the server counts and times, for Prometheus; one registry a server.

Where TensorFlow Serving has a metric, its name, labels and unit are used, so that one dashboard fits both; what it has
none for begins with `earshot_serving_`.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from serving.modelserver.loaded import Loaded

APIS = ("Predict", "Classify", "Regress", "MultiInference")
"""What clients ask models for."""
RUNTIME = "TF1"
"""What TensorFlow Serving calls a session."""

OTHER_MODEL = "unknown"
"""Counted together: requests for models that are not offered, so that no client can add series at will."""

CODES = (
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "INTERNAL",
)
"""Codes that the server itself answers; a model's own errors may bring others."""

_LATENCY_US = tuple(10 * 1.8**step for step in range(33))
"""TensorFlow Serving's buckets, from 10 microseconds on."""
_QUEUED_US = tuple(100 * 1.2**step for step in range(52))
"""Those of the wait for a batch."""
_EXAMPLES = tuple(2.0**step for step in range(15))
LIMIT, INFINITE = "le", "+Inf"
"""Label of a histogram's buckets, and the last one's."""


class _Count(Collector):
    """A counter whose name does not end in _total, as TensorFlow Serving's do not."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._values: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count `amount` more."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def collect(self) -> Iterator[UnknownMetricFamily]:
        """The values for a scrape."""
        family = UnknownMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            for labels, value in self._values.items():
                family.add_metric(labels, value)
        yield family


class _Histogram(Histogram):
    """Writes what TensorFlow Serving does: limits as `le="10"` and not "10.0", so that both can be summed by them."""

    def collect(self) -> Iterator[Metric]:
        """The values for a scrape, without the times at which they began."""
        for family in super().collect():
            family.samples = [
                sample._replace(labels=_short_limit(sample.labels))
                for sample in family.samples
                if not sample.name.endswith("_created")
            ]
            yield family


def _short_limit(labels: dict[str, str]) -> dict[str, str]:
    if labels.get(LIMIT, INFINITE) == INFINITE:
        return labels
    return labels | {LIMIT: f"{float(labels[LIMIT]):g}"}


class BatchingMetrics:
    """What is counted and timed where requests run in batches.

    TensorFlow Serving's label `thread_pool_name` is empty for what its model server batches, which to Prometheus is as
    none.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queued = _Histogram(
            ":tensorflow:serving:batching_session:queuing_latency",
            "Microseconds that a request waited for its batch to run.",
            buckets=_QUEUED_US,
            registry=registry,
        )
        self._runs = _Count(":tensorflow:serving:batching_session:wrapped_run_count", "Batches that were run.", ())
        self._runs.add(amount=0)
        registry.register(self._runs)

    def waited(self, seconds: float) -> None:
        """Time how long a request has waited."""
        self._queued.observe(seconds * 1e6)

    def ran(self) -> None:
        """Count one run."""
        self._runs.add()


class ServingMetrics:
    """The server's metrics; those of the models offered are there from the start, so a rate sees the first event."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._count(
            ":tensorflow:serving:request_count", "Requests answered.", ("model_name", "status")
        )
        self._latency = _Histogram(
            ":tensorflow:serving:request_latency",
            "Microseconds from a request's arrival to its answer.",
            ["model_name", "API", "entrypoint"],
            buckets=_LATENCY_US,
            registry=self.registry,
        )
        self._runtime = _Histogram(
            ":tensorflow:serving:runtime_latency",
            "Microseconds that a request's run took, the wait for it included.",
            ["model_name", "API", "runtime"],
            buckets=_LATENCY_US,
            registry=self.registry,
        )
        self._examples = _Histogram(
            ":tensorflow:serving:request_example_counts",
            "Examples of a classify or regress request.",
            ["model"],
            buckets=_EXAMPLES,
            registry=self.registry,
        )
        self._example_total = self._count(
            ":tensorflow:serving:request_example_count_total", "Examples of classify and regress requests.", ("model",)
        )
        self._load_attempts = self._count(
            ":tensorflow:cc:saved_model:load_attempt_count", "Loads of a SavedModel.", ("model_path", "status")
        )
        self._load_us = self._count(
            ":tensorflow:cc:saved_model:load_latency", "Microseconds that loads took.", ("model_path",)
        )
        self._warm_up = _Histogram(
            ":tensorflow:serving:model_warmup_latency",
            "Microseconds that the warm-up requests of a version took.",
            ["model_path", "status"],
            buckets=_LATENCY_US,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "earshot_serving_requests_in_flight", "Requests running or waiting.", ["API"], registry=self.registry
        )
        self._version = Gauge(
            "earshot_serving_loaded_version",
            "Newest version that is served; 0 for none.",
            ["model"],
            registry=self.registry,
        )
        self._load = Gauge(
            "earshot_serving_load_seconds",
            "Seconds that the newest version took to load and warm up.",
            ["model"],
            registry=self.registry,
        )
        self._models: set[str] = set()
        for api in APIS:
            self._in_flight.labels(api)

    def _count(self, name: str, documentation: str, labels: tuple[str, ...]) -> _Count:
        count = _Count(name, documentation, labels)
        self.registry.register(count)
        return count

    @contextmanager
    def in_flight(self, api: str) -> Iterator[None]:
        """Count one request as in flight within."""
        with self._in_flight.labels(api).track_inprogress():
            yield

    def answered(self, model: str, api: str, entrypoint: str, code: str, seconds: float) -> None:
        """Count one request by its status, and time it if it succeeded, as TensorFlow Serving does."""
        name = model if model in self._models else OTHER_MODEL
        self._requests.add(name, code)
        if code == "OK":
            self._latency.labels(name, api, entrypoint).observe(seconds * 1e6)

    @contextmanager
    def running(self, model: str, api: str) -> Iterator[None]:
        """Time a run of a model."""
        started = time.monotonic()
        yield
        self._runtime.labels(model, api, RUNTIME).observe((time.monotonic() - started) * 1e6)

    def examples(self, model: str, number: int) -> None:
        """Count the examples of one request."""
        self._examples.labels(model).observe(number)
        self._example_total.add(model, amount=number)

    def load_tried(self, path: str, seconds: float, *, loaded: bool) -> None:
        """Count one load of a SavedModel."""
        self._load_attempts.add(path, "success" if loaded else "fail")
        self._load_us.add(path, amount=seconds * 1e6)

    def warmed_up(self, path: str, seconds: float) -> None:
        """Time the warm-up requests of a version, which were answered."""
        self._warm_up.labels(path, "OK").observe(seconds * 1e6)

    def offered(self, latest: Mapping[str, Loaded | None]) -> None:
        """Note which models are offered now, and the newest version of each that is served."""
        for model in self._models - latest.keys():
            self._version.remove(model)
            self._load.remove(model)
        for model, loaded in latest.items():
            if model not in self._models:
                for code in CODES:
                    self._requests.add(model, code, amount=0)
            self._version.labels(model).set(loaded.version if loaded is not None else 0)
            self._load.labels(model).set(loaded.load_s if loaded is not None else 0)
        self._models = set(latest)
