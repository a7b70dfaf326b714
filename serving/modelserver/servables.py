"""The models a server offers, by name: which they are, and the version that a request's ModelSpec asks for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import grpc

from earshot.logs import get_log
from serving.layout import version_folders
from serving.modelserver.errors import ServingError, failed_precondition, invalid, not_found, unavailable
from serving.modelserver.loaded import Loaded, Retired
from serving.modelserver.version_status import State

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from tensorflow_serving.apis import model_pb2

    from serving.modelserver.model_config import ModelConfig
    from serving.modelserver.version_status import VersionStatus
    from serving.modelserver.versions import VersionWatcher

log = get_log(__name__)

_LOOK_S = 0.05
"""Seconds between two looks at models that are loading."""


class Servables:
    """The watcher of each model, and what its labels stand for."""

    def __init__(
        self,
        watch: Callable[[ModelConfig, Callable[[], None]], VersionWatcher],
        *,
        changed: Callable[[], None] = lambda: None,
        labels_for_unavailable_models: bool = False,
    ) -> None:
        """watch: makes the watcher of a model, not started yet, which calls what it is given when its versions change.

        changed: called after any change of the models or their versions, from whatever thread.
        labels_for_unavailable_models: whether a new label may name a version that is not available.
        """
        self.watchers: Mapping[str, VersionWatcher] = {}
        self._past: dict[str, VersionWatcher] = {}
        """Of models that are offered no longer, where a version of theirs was served."""
        self._watch = watch
        self._changed = changed
        self._may_wait = labels_for_unavailable_models
        self._models: Sequence[ModelConfig] = ()
        self._labels: dict[str, dict[str, int]] = {}
        self._waiting_labels: dict[str, dict[str, int]] = {}
        self._changing = threading.Lock()
        self._asked, self._reloads = 0, 0
        """Reloads that came, and the one of these that was begun last."""
        self._reloading = 0
        self.reloaded = 0
        """How often a reload succeeded."""

    @property
    def all_served(self) -> bool:
        """Whether a version of each model is served; what a reload waits for does not count."""
        watchers = [self.watchers.get(model.name) for model in self._models]
        return all(watcher and watcher.latest for watcher in watchers)

    @property
    def reloading(self) -> bool:
        """Whether a reload waits for its models."""
        return self._reloading > 0

    def offer(self, models: Sequence[ModelConfig]) -> None:
        """Offer these models and no others, and begin to load them.

        Labels of versions that are not there yet take effect when they are.
        """
        with self._changing:
            self._follow(models)
            self._models = models
            self._waiting_labels = {model.name: dict(model.labels) for model in models}
        self._versions_changed()

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        """Offer these models and no others, and return when each new one has a version to serve, and labels are set.

        A model is new where its base path or its policy is; of the others nothing is asked but what their labels name.
        Raises ServingError where a new one has no version, a label names one that is not served, or another reload came
        after this one; then everything is offered as it was.
        """
        self._asked += 1
        own = self._asked
        self._reloading += 1
        try:
            new = {model.name for model in models if self._is_new(model)}
            for model in models:  # nothing that is served is touched for what cannot come to be
                await self._require_candidates(model, new=model.name in new)
            if own < self._reloads:
                raise _superseded()
            self._reloads = own
            names = {model.name for model in models}
            others = [model for model in self._models if model.name not in names]
            with self._changing:
                self._follow([*models, *others])
            await self._settled(models, new, own)
            with self._changing:
                for model in models:
                    self._require_labels(model, self.watchers[model.name].wanted)
        except Exception:
            if own == self._reloads:
                with self._changing:
                    self._follow(self._models)
                self._versions_changed()
            raise
        finally:
            self._reloading -= 1
        with self._changing:
            self._follow(models)
            self._models = models
            self._labels = {model.name: dict(model.labels) for model in models}
            self._waiting_labels = {}
        self.reloaded += 1
        self._versions_changed()

    def stop(self) -> None:
        """Unload every model."""
        with self._changing:
            gone, self.watchers = self.watchers, {}
        for watcher in gone.values():
            watcher.stop()

    def _versions_changed(self) -> None:
        """Let labels take effect whose version has become available, and tell who wants to know."""
        with self._changing:
            for name, labels in self._waiting_labels.items():
                watcher = self.watchers.get(name)
                there = watcher.loaded if watcher else {}
                for label in [each for each, version in labels.items() if self._may_wait or version in there]:
                    self._labels.setdefault(name, {})[label] = labels.pop(label)
        self._changed()

    def statuses(self, model: str) -> list[VersionStatus]:
        """The status of each version of a model, the newest first, even if the model is no longer offered."""
        watcher = self.watchers.get(model) or self._past.get(model)
        return watcher.statuses() if watcher else []

    def watcher(self, spec: model_pb2.ModelSpec) -> VersionWatcher:
        """The watcher of the model that `spec` names; raises ServingError without one."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
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
            known = ", ".join(labels) or "none"
            raise invalid(f"Unrecognized servable version label: {spec.version_label}; labels: {known}")
        return spec.version.value if spec.HasField("version") else None

    @contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Loaded]:
        """The loaded version that `spec` asks for, which stays loaded within; raises ServingError without one."""
        # TensorFlow Serving looks at the label first: one of a model that is not there is unknown as well.
        wanted = self.version(spec) if spec.name else None
        watcher = self.watcher(spec)
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
        self._past = {name: watcher for name, watcher in self._past.items() if watcher.statuses()}
        for name in self.watchers.keys() - names:
            log.info("model no longer offered", model=name)
            self._past[name] = self.watchers[name]
            # A load under way is not waited for.
            threading.Thread(target=self.watchers[name].stop, name=f"unload-{name}").start()
        kept = {name: watcher for name, watcher in self.watchers.items() if name in names}
        for model in models:
            watcher = kept.get(model.name)
            if watcher is not None:
                if (watcher.base_path, watcher.policy) != (model.base_path, model.policy) or not watcher.loaded:
                    watcher.follow(model.base_path, model.policy)
            else:
                watcher = kept[model.name] = self._watch(model, self._versions_changed)
                if past := self._past.pop(model.name, None):
                    watcher.remember([each for each in past.statuses() if each.state is State.END])
                watcher.start()
        self.watchers = kept
        self._labels = {name: labels for name, labels in self._labels.items() if name in names}

    async def _settled(self, models: Sequence[ModelConfig], new: set[str], reload: int) -> None:
        """Return when each model has what it is waited for, or it cannot be served.

        Raises ServingError where a new model has no version.
        """
        waited_for = {model.name: self.watchers[model.name] for model in models}
        told: list[str] = []
        while reload == self._reloads:
            unsettled = [
                model.name for model in models if not _is_settled(waited_for[model.name], model, new=model.name in new)
            ]
            if not unsettled:
                break
            if unsettled != told:
                log.info("a new configuration waits for versions to be loaded", models=unsettled)
                told = unsettled
            await asyncio.sleep(_LOOK_S)
        else:
            raise _superseded()
        missing = [
            f"{name}: {'; '.join(watcher.failures) or 'no version there'}"
            for name, watcher in waited_for.items()
            if name in new and not watcher.wanted
        ]
        if missing:
            raise _none_available(missing)

    def _is_new(self, model: ModelConfig) -> bool:
        """Whether it is not offered yet, or elsewhere or by another policy; a reload that waits may have moved it."""
        watcher = self.watchers.get(model.name)
        offered = {(each.name, each.base_path, each.policy) for each in self._models}
        return (
            watcher is None
            or (watcher.base_path, watcher.policy) != (model.base_path, model.policy)
            or (model.name, model.base_path, model.policy) not in offered
        )

    async def _require_candidates(self, model: ModelConfig, *, new: bool) -> None:
        """Raise ServingError where a new model has no version there, or a label names what cannot come to be served."""
        watcher = self.watchers.get(model.name)
        try:
            folders = await asyncio.to_thread(_folders, model)  # a disk may be slow
        except ServingError:
            if watcher is None or new:
                raise
            folders = set(watcher.loaded)  # which are served while it is away
        if new and not model.policy.candidates(folders):
            raise _none_available([f"{model.name}: no version there"])
        loaded = watcher.loaded.keys() & folders if watcher and watcher.base_path == model.base_path else set()
        self._require_labels(model, model.policy.attainable(folders, loaded))

    def _require_labels(self, model: ModelConfig, there: Container[int]) -> None:
        """Raise ServingError where a label's version is not `there`, and the label may not wait for it."""
        assigned = self._labels.get(model.name, {})
        for label, version in model.labels.items():
            if version not in there and not (self._may_wait and assigned.get(label) in {None, version}):
                raise failed_precondition(
                    f"Request to assign label to version {version} of model {model.name}, which is not currently "
                    f"available for inference; label {label} stays as it was"
                )


def _folders(model: ModelConfig) -> set[int]:
    """The versions that have a folder; raises ServingError where the base path cannot be looked into."""
    try:
        return set(version_folders(model.base_path))
    except OSError as error:  # it is not there, too long, or may not be read
        raise invalid(
            f"Could not find base path {model.base_path} for servable {model.name} ({error.strerror})"
        ) from None


def _is_settled(watcher: VersionWatcher, model: ModelConfig, *, new: bool) -> bool:
    """Whether nothing is to be waited for: but for a new model without a version only versions that labels name are."""
    if not new and not model.labels:
        return True
    if watcher.wanted or not new:
        return watcher.looked and not watcher.pending & set(model.labels.values())
    coming = watcher.pending or State.START in {each.state for each in watcher.statuses()}
    return watcher.looked and bool(watcher.unreadable or not coming)


def _superseded() -> ServingError:
    return ServingError(grpc.StatusCode.ABORTED, "another configuration came after this one")


def _none_available(missing: Sequence[str]) -> ServingError:
    return ServingError(
        grpc.StatusCode.UNKNOWN, f"{len(missing)} servable(s) did not become available: {{{', '.join(missing)}}}"
    )


def _absent(spec: model_pb2.ModelSpec, version: int | None, why: str) -> ServingError:
    """TensorFlow Serving's words for what it does not serve, and why that is so here."""
    asked = f"Specific({spec.name}, {version})" if version is not None else f"Latest({spec.name})"
    return not_found(f"Servable not found for request: {asked}; {why}")
