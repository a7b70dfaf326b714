"""What every engine is to the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from tensorflow.core.protobuf import meta_graph_pb2


class Engine(Protocol):
    """A loaded version that can be run."""

    @property
    def signature_defs(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """Each signature by its name."""
        ...

    def run(
        self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """The outputs asked for, by name, of inputs by name; called by several threads at once.

        Names and types of the inputs have been checked, their shapes are for the engine to judge.

        Raises ServingError where the model cannot take the inputs.
        """
        ...

    def close(self) -> None:
        """Let go of the model's memory; nothing runs any more."""
        ...
