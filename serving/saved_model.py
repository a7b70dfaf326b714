"""What a SavedModel says of itself, without loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from earshot.tfserving import messages
from serving.failures import BrokenModel, ErrorCode
from serving.layout import SAVED_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tensorflow.core.protobuf import meta_graph_pb2

SERVE_TAG = "serve"


def read_signatures(version_dir: Path, tags: Sequence[str] = (SERVE_TAG,)) -> dict[str, meta_graph_pb2.SignatureDef]:
    """Each signature of the graph with these tags, by name; raises BrokenModel without one that can be read."""
    saved = _saved_model(version_dir)
    graphs = [graph for graph in saved.meta_graphs if set(graph.meta_info_def.tags) == set(tags)]
    if not graphs:
        missing = f"{version_dir / SAVED_MODEL_FILE} has no graph with the tags {', '.join(tags)}"
        raise BrokenModel(missing, ErrorCode.NOT_FOUND)
    return dict(graphs[0].signature_def)


def _saved_model(version_dir: Path) -> Any:
    """The SavedModel's description, which may be in protobuf's text format too."""
    binary, text = version_dir / SAVED_MODEL_FILE, version_dir / f"{SAVED_MODEL_FILE}txt"
    path = text if text.is_file() and not binary.is_file() else binary
    try:
        if path == text:
            return text_format.Parse(text.read_text(encoding="utf-8"), messages.SavedModel())
        return messages.SavedModel.FromString(binary.read_bytes())
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise BrokenModel(f"{path} is no SavedModel: {error}", ErrorCode.DATA_LOSS) from None
