"""The models a server offers, by name: which they are, and the version that a request's ModelSpec asks for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import grpc

from earshot.logs import get_log
from serving.errors import ServingError, failed_precondition, invalid, not_found, unavailable
from serving.versions import Loaded, Retired, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tensorflow_serving.apis import model_pb2

    from serving.model_config import ModelConfig
    from serving.versions import VersionWatcher

log = get_log(__name__)

_LOOK_S = 0.05
"""Seconds between two looks at models that are loading."""


class Servables:
    """The watcher of each model, and what its labels stand for."""

    def __init__(
        self, watch: Callable[[ModelConfig], VersionWatcher], *, labels_for_unavailable_models: bool = False
    ) -> None:
        """watch: makes the watcher of a model, not started yet.

        labels_for_unavailable_models: whether a new label may name a version that is not available.
        """
        self.watchers: Mapping[str, VersionWatcher] = {}
        self._watch = watch
        self._may_wait = labels_for_unavailable_models
        self._labels: dict[str, dict[str, int]] = {}
        self._waiting_labels: dict[str, dict[str, int]] = {}
        self._changing = threading.Lock()

    def offer(self, models: Sequence[ModelConfig]) -> None:
        """Offer these models and no others, and begin to load them.

        Labels of versions that are not there yet take effect when they are.
        """
        with self._changing:
            self._follow(models)
            self._waiting_labels = {model.name: dict(model.labels) for model in models}
        self.versions_changed()

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        """Offer these models and no others, and return when each has a version to serve and its labels are set.

        Raises ServingError where one has none, or a label names a version that is not served; the models are offered
        all the same, and labels stay as they were.
        """
        for model in models:
            if not model.base_path.is_dir():
                raise invalid(f"Could not find base path {model.base_path} for servable {model.name}")
        with self._changing:
            self._follow(models)
        await self._settled(models)
        with self._changing:
            for model in models:
                self._check_labels(model)
            self._labels = {model.name: dict(model.labels) for model in models}
            self._waiting_labels = {}

    def stop(self) -> None:
        """Unload every model."""
        with self._changing:
            gone, self.watchers = self.watchers, {}
        for watcher in gone.values():
            watcher.stop()

    def versions_changed(self) -> None:
        """Let labels take effect whose version has become available."""
        with self._changing:
            for name, labels in self._waiting_labels.items():
                watcher = self.watchers.get(name)
                there = watcher.loaded if watcher else {}
                for label in [each for each, version in labels.items() if self._may_wait or version in there]:
                    self._labels.setdefault(name, {})[label] = labels.pop(label)

    def watcher(self, spec: model_pb2.ModelSpec) -> VersionWatcher:
        """The watcher of the model that `spec` names; raises ServingError without one."""
        if not spec.name:
            raise invalid("ModelSpec has no model name specified.")
        watcher = self.watchers.get(spec.name)
        if watcher is None:
            raise _absent(spec, None, f"served here: {', '.join(self.watchers) or 'nothing'}")
        return watcher

    def version(self, spec: model_pb2.ModelSpec) -> int | None:
        """The version that `spec` asks for by number or label, None for the latest; raises ServingError."""
        if spec.WhichOneof("version_choice") == "version_label":
            labels = self._labels.get(spec.name, {})
            if spec.version_label in labels:
                return labels[spec.version_label]
            if spec.version_label in self._waiting_labels.get(spec.name, {}):
                raise unavailable(f"label {spec.version_label} of {spec.name} waits for its version to be loaded")
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return spec.version.value if spec.HasField("version") else None

    @contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Loaded]:
        """The loaded version that `spec` asks for, which stays loaded within; raises ServingError without one."""
        watcher = self.watcher(spec)
        wanted = self.version(spec)
        with ExitStack() as stack:
            while True:
                loaded = watcher.latest if wanted is None else watcher.loaded.get(wanted)
                if loaded is None:
                    served = ", ".join(map(str, watcher.loaded)) or "none yet"
                    raise _absent(spec, wanted, f"available versions: {served}")
                try:
                    stack.enter_context(loaded.lease())
                except Retired:
                    continue  # another has just taken its place
                break
            yield loaded

    def _follow(self, models: Sequence[ModelConfig]) -> None:
        names = {model.name for model in models}
        for name in self.watchers.keys() - names:
            log.info("model no longer offered", model=name)
            # A load under way is not waited for.
            threading.Thread(target=self.watchers[name].stop, name=f"unload-{name}").start()
        kept = {name: watcher for name, watcher in self.watchers.items() if name in names}
        for model in models:
            if model.name in kept:
                kept[model.name].follow(model.base_path, model.policy)
            else:
                kept[model.name] = self._watch(model)
                kept[model.name].start()
        self.watchers = kept
        self._labels = {name: labels for name, labels in self._labels.items() if name in names}

    async def _settled(self, models: Sequence[ModelConfig]) -> None:
        waited_for = {model.name: self.watchers[model.name] for model in models}
        while any(not watcher.looked or _is_loading(watcher) for watcher in waited_for.values()):  # noqa: ASYNC110 - threads
            await asyncio.sleep(_LOOK_S)
        missing = [
            f"{name}: {'; '.join(status.error for status in watcher.statuses() if status.error) or 'no version there'}"
            for name, watcher in waited_for.items()
            if not watcher.loaded
        ]
        if missing:
            raise ServingError(
                grpc.StatusCode.UNKNOWN,
                f"{len(missing)} servable(s) did not become available: {{{', '.join(missing)}}}",
            )

    def _check_labels(self, model: ModelConfig) -> None:
        there, assigned = self.watchers[model.name].loaded, self._labels.get(model.name, {})
        for label, version in model.labels.items():
            if version not in there and not (self._may_wait and label not in assigned):
                raise failed_precondition(
                    f"Request to assign label to version {version} of model {model.name}, which is not currently "
                    f"available for inference; label {label} stays as it was"
                )


def _is_loading(watcher: VersionWatcher) -> bool:
    return not watcher.loaded and any(status.state in {State.START, State.LOADING} for status in watcher.statuses())


def _absent(spec: model_pb2.ModelSpec, version: int | None, why: str) -> ServingError:
    """TensorFlow Serving's words for what it does not serve, and why that is so here."""
    asked = f"Specific({spec.name}, {version})" if version is not None else f"Latest({spec.name})"
    return not_found(f"Servable not found for request: {asked}; {why}")
