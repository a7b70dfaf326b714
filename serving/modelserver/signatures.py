"""A signature: the inputs and outputs of one way to call a model, and the checks that keep wrong requests out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from serving.modelserver.errors import ServingError, failed_precondition, invalid
from serving.modelserver.tensors import InvalidTensor, dtype_name, to_numpy

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.core.protobuf import meta_graph_pb2

    from serving.modelserver.in_place import InPlaceTensor

DEFAULT_SIGNATURE = "serving_default"
"""What an empty signature name means."""

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
"""What a signature says it is for. Predict calls them all."""


def signature_to_predict(
    signatures: Mapping[str, meta_graph_pb2.SignatureDef], name: str
) -> tuple[str, meta_graph_pb2.SignatureDef]:
    """Name and signature of the one named so (empty: the default); raises ServingError without it."""
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        known = ", ".join(sorted(each for each, signature in signatures.items() if signature.method_name)) or "none"
        raise failed_precondition(f'Serving signature key "{name}" not found; the model has {known}.')
    return name, signatures[name]


def require_predict_method(signature: meta_graph_pb2.SignatureDef) -> None:
    """Raise ServingError where a signature says that it is for something else than Predict."""
    if signature.method_name not in {PREDICT, CLASSIFY, REGRESS}:
        raise ServingError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{PREDICT}, {CLASSIFY}, {REGRESS}}}. "
            f"Was: {signature.method_name}",
        )


def decode_inputs(
    signature: meta_graph_pb2.SignatureDef,
    inputs: Mapping[str, tensor_pb2.TensorProto | InPlaceTensor],
    max_bytes: int,
) -> dict[str, NDArray[Any]]:
    """The arrays of `inputs` by name, and the signature's own of those that have a default and were not sent.

    Shapes are the engine's to judge. Raises ServingError (INVALID_ARGUMENT) where names or
    types are not the signature's, or a tensor is broken.
    """
    _check_names(signature, inputs)
    arrays = {}
    for name, info in signature.inputs.items():
        proto = inputs[name] if name in inputs else signature.defaults[name]
        require_type(name, info.dtype, proto.dtype)
        try:
            arrays[name] = to_numpy(proto, max_bytes)
        except InvalidTensor as error:
            raise invalid(f"tensor parsing error: {name}: {error}") from error
    return arrays


def chosen_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """Names of the outputs to answer with: those of the filter, or all where it is empty.

    Raises ServingError (INVALID_ARGUMENT) where the filter names an unknown output, or one twice.
    """
    known = sorted(signature.outputs)
    for position, name in enumerate(output_filter):
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {{{','.join(known)}}}."
            )
        if name in output_filter[:position]:
            raise invalid(f"duplicate output tensor alias: {name}")
    return list(output_filter) or known


def require_type(name: str, expected: int, sent: int) -> None:
    """Raise ServingError (INVALID_ARGUMENT) where an input is of another tensor type than the signature's."""
    if sent != expected:
        raise invalid(f"input {name!r} is expected to be {dtype_name(expected)} but {dtype_name(sent)} is provided")


def check_shape(name: str, expected: Any, sizes: Sequence[int]) -> None:
    """Raise ServingError (INVALID_ARGUMENT) where `sizes` do not fit a TensorShapeProto."""
    if expected.unknown_rank:
        return
    wanted = [dim.size for dim in expected.dim]
    if len(wanted) != len(sizes) or any(want not in (-1, size) for want, size in zip(wanted, sizes, strict=True)):
        shown = ", ".join("?" if want == -1 else str(want) for want in wanted)
        raise invalid(f"input {name!r} must have shape [{shown}], not {list(sizes)}")


def _check_names(signature: meta_graph_pb2.SignatureDef, sent: Collection[str]) -> None:
    expected = signature.inputs
    extra, missing = sorted(set(sent) - set(expected)), sorted(set(expected) - set(sent) - set(signature.defaults))
    if not extra and not missing:
        return
    sets = f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
    if len(sent) != len(expected):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({{{','.join(sorted(sent))}}}) != len({{{','.join(sorted(expected))}}}). {sets}"
        )
    raise invalid(
        f"input tensor alias not found in signature: {extra[0]}. "
        f"Inputs expected to be in the set {{{','.join(sorted(expected))}}}. {sets}"
    )
