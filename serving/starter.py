"""The starter model: one small file in the repository, expanded into TensorFlow Serving's layout on first use.

`python -m serving.starter --into DIR` puts it into a folder of one's own.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

import typer

from earshot.command import fail, needs
from earshot.folders import cache_folder
from serving.failures import ExportError, InvalidModelFile
from serving.layout import INT8_FILE

STARTER = Path(__file__).with_name("starter_model") / "earshot-starter.npz"
STARTER_INT8 = STARTER.with_name("int8.json")
"""What it needs to be run in 8 bits, as `earshot models quantize` writes it."""
STARTER_CARD = STARTER.with_name("CARD.md")
MODEL_NAME = "earshot"
VERSION = 1


def ensure_starter(cache: Path | None = None) -> Path:
    """The model base path that holds the starter model as version 1, made in the cache where it is not there yet.

    cache: the folder for it; None is Earshot's. A cached model belongs to one content of its files, so a new starter
    model is expanded anew. Raises InvalidModelFile where a file is missing or broken, ExportError or OSError where
    the cache cannot be written.
    """
    cache = cache or cache_folder()
    try:
        files = (STARTER, STARTER_INT8, STARTER_CARD)
        content = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    except OSError as error:
        raise InvalidModelFile(f"the starter model {error.filename} cannot be read: {error.strerror}") from error
    base = cache / "models" / content / MODEL_NAME
    if not (base / str(VERSION)).is_dir():
        expand(STARTER, base)
    return base


def expand(file: Path, base: Path) -> Path:
    """Write the compact starter model in `file` as version 1 in `base`; the folder appears when it is whole.

    Its card is the repository's, with data and licence, and not the one of the run that trained it.
    """
    from serving.compact import load_compact
    from serving.export import export_saved_model

    model = load_compact(file)
    version = base / str(VERSION)
    try:
        extra = {INT8_FILE: STARTER_INT8.read_text(encoding="utf-8")}
        card = STARTER_CARD.read_text(encoding="utf-8")
        return export_saved_model(
            model.network(), model.class_names, version, model.params, card, model.thresholds, extra
        )
    except ExportError:
        if version.is_dir():  # another process was quicker
            return version
        raise


def main(
    into: Annotated[Path, typer.Option(help="Model base path: the folder that gets a folder named 1.")],
) -> None:
    """Expand the starter model into a folder for TensorFlow Serving."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if (into / str(VERSION)).exists():
        typer.echo(f"{into / str(VERSION)} is there already")
        return
    try:
        with needs("serving"):
            typer.echo(str(expand(STARTER, into)))
    except (InvalidModelFile, ExportError) as error:
        raise fail(error) from None
    except OSError as error:
        raise fail(f"{error}; name a folder that you may write to with --into") from None


if __name__ == "__main__":
    typer.run(main)
