"""The starter model: one small file in the repository, expanded into TensorFlow Serving's layout on first use.

`python -m serving.starter --into DIR` puts it into a folder of one's own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from earshot.command import fail, needs
from earshot.folders import cache_folder
from serving.child import module_command, module_environment, signal_name
from serving.failures import ExportError, InvalidModelFile
from serving.layout import INT8_FILE, TRAINING_FILE

STARTER = Path(__file__).with_name("starter_model") / "earshot-starter.npz"
STARTER_INT8 = STARTER.with_name("int8.json")
"""What it needs to be run in 8 bits, as `earshot models quantize` writes it."""
STARTER_TRAINING = STARTER.with_name("training.json")
"""What it was made from, as retraining writes it: the recordings that its head learnt, and what its weights heard."""
STARTER_CARD = STARTER.with_name("CARD.md")
MODEL_NAME = "earshot"
VERSION = 1


class CannotExpand(RuntimeError):
    """The starter model cannot be expanded; the message says why."""


def starter_version(cache: Path | None = None) -> Path:
    """Where the starter model is, once expanded, version 1 of the model base path above it.

    cache: the folder for it; None is Earshot's. An expanded model belongs to one content of its files, so a new starter
    model is expanded anew. Raises InvalidModelFile where a file is missing.
    """
    try:
        files = (STARTER, STARTER_INT8, STARTER_TRAINING, STARTER_CARD)
        content = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    except OSError as error:
        raise InvalidModelFile(f"the starter model {error.filename} cannot be read: {error.strerror}") from error
    return (cache or cache_folder()) / "models" / content / MODEL_NAME / str(VERSION)


def ensure_starter(cache: Path | None = None) -> Path:
    """The model base path that holds the starter model as version 1, made in the cache where it is not there yet.

    cache: as for `starter_version`. Raises InvalidModelFile where a file is missing or broken, ExportError or OSError
    where the cache cannot be written.
    """
    version = starter_version(cache)
    if not version.is_dir():
        expand(STARTER, version.parent)
    return version.parent


def ensure_starter_aside() -> Path:
    """The same in Earshot's cache, expanded in a process of its own: Keras would keep 400 MB to 800 MB of this one's.

    Raises InvalidModelFile where a file is missing, and CannotExpand.
    """
    version = starter_version()
    if not version.is_dir():
        done = subprocess.run(
            module_command("serving.starter"),
            env=module_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode < 0:
            raise CannotExpand(
                f"the process that expands the starter model was ended by {signal_name(-done.returncode)}, as it is "
                "where memory runs out; it takes 1 GB"
            )
        if done.returncode:
            raise CannotExpand(done.stderr.strip().rpartition("earshot: ")[2] or f"exit status {done.returncode}")
    return version.parent


def expand(file: Path, base: Path) -> Path:
    """Write the compact starter model in `file` as version 1 in `base`; the folder appears when it is whole.

    Its card is the repository's, with data and licence, and not the one of the run that trained it.
    """
    from serving.compact import load_compact
    from serving.export import export_saved_model

    model = load_compact(file)
    version = base / str(VERSION)
    try:
        own = {INT8_FILE: STARTER_INT8, TRAINING_FILE: STARTER_TRAINING}
        extra = {name: path.read_text(encoding="utf-8") for name, path in own.items()}
        card = STARTER_CARD.read_text(encoding="utf-8")
        return export_saved_model(
            model.network(), model.class_names, version, model.params, card, model.thresholds, extra
        )
    except ExportError:
        if version.is_dir():  # another process was quicker
            return version
        raise


def main(
    into: Annotated[
        Path | None,
        typer.Option(help="Model base path: the folder that gets a folder named 1; none: in Earshot's cache."),
    ] = None,
) -> None:
    """Expand the starter model into a folder for TensorFlow Serving."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        version = into / str(VERSION) if into else starter_version()
        if version.exists():
            typer.echo(f"{version} is there already")
            return
        with needs("serving"):
            typer.echo(str(expand(STARTER, version.parent)))
    except (InvalidModelFile, ExportError) as error:
        raise fail(error) from None
    except OSError as error:
        mend = "name a folder that you may write to with --into"
        if not into:
            mend = "set EARSHOT_CACHE to a folder that you may write to"
        where, why = error.filename or version.parent, error.strerror or error
        raise fail(f"cannot expand the starter model into {where} ({why}); {mend}") from None


if __name__ == "__main__":
    typer.run(main)
