"""One run of a loaded version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from serving.modelserver.loaded import Loaded


def run_model(
    loaded: Loaded, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The outputs asked for, by name; raises ServingError where the model cannot take the inputs."""
    # The lease is the thread's own: a client that gives up lets go of the request's, and the model runs on.
    with loaded.lease() as engine:
        return engine.run(signature, inputs, outputs)
