"""The tutorial's first step: spectrograms as pictures, one of each clip, in a folder for each class.

python -m training.spectrograms UrbanSound8K pictures
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Annotated

import typer

from earshot.command import APP, fail, interrupted, logs_as_set, needs
from training.settings import folders_of

app = typer.Typer(**APP)


@app.command()
def main(
    data: Annotated[str, typer.Argument(help="Labelled clips, as `earshot retrain --data` takes them.")],
    out: Annotated[Path, typer.Argument(help="Folder that gets a folder for each class.")],
    class_map: Annotated[Path | None, typer.Option(help="Table of their names, as for `earshot retrain`.")] = None,
) -> None:
    """Write a spectrogram of each clip's first three seconds as a PNG picture.

    It is what a model is shown, with the low frequencies at the bottom: red, green and blue are the windows of 25, 50
    and 100 ms.
    """
    logs_as_set()
    with needs("training"):
        from training.data.datasets import DataError, find_clips, read_class_map
        from training.data.pictures import write_pictures
    try:
        names = read_class_map(class_map) if class_map else None
        clips = find_clips(*folders_of(data), class_map=names, least_classes=1)
        written = write_pictures(clips, out)
    except DataError as error:
        raise fail(error) from None
    except OSError as error:
        raise fail(f"{error}; name a folder that you may write to, or make room") from None
    except KeyboardInterrupt:
        raise interrupted("the same command makes them anew") from None
    others = "; the log names the others" if written < len(clips) else ""
    typer.echo(f"{written} pictures of {len(clips)} clips in {out}{others}")


if __name__ == "__main__":
    app()
