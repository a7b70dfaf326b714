"""One run of a loaded version, its failures as a client is to see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from serving.errors import ServingError, invalid, status_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from serving.versions import Loaded


def run_model(
    loaded: Loaded, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The outputs asked for, by name; raises ServingError where the model cannot take the inputs."""
    # The lease is the thread's own: a client that gives up lets go of the request's, and the model runs on.
    with loaded.lease() as engine:
        try:
            return engine.run(signature, inputs, outputs)
        except tf.errors.OpError as error:
            raise ServingError(status_code(error.error_code), str(error.message)) from error
        except UnicodeDecodeError as error:  # TensorFlow's message quotes bytes of the request, and is no text any more
            raise invalid(error.object.decode(errors="replace")) from error
