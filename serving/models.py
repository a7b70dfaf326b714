"""`earshot models`: what stands under a model base path, and what is served next."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earshot.command import APP, fail, interrupted, logs_as_set, needs
from training.settings import folders_of

if TYPE_CHECKING:
    from serving.inspection import Version

REFUSED = 1
"""Exit status of `promote` where the candidate is not fit to be published."""

app = typer.Typer(
    help="List, promote and roll back the versions of a model.",
    no_args_is_help=True,
    **APP,
)

BasePath = Annotated[
    Path, typer.Option("--model-base-path", help="Folder that holds a numeric folder for each version.")
]


@app.command("list")
def list_(
    model_base_path: BasePath,
    as_json: Annotated[bool, typer.Option("--json", help="Print the versions as JSON.")] = False,
) -> None:
    """List the versions, the newest first.

    `latest` is the one that TensorFlow Serving takes. The accuracy is of the first 3 s of so many clips, as retraining
    measured it: of clips held out from this version, or of folds held out from models of its recipe. Where its weights
    have heard some of these clips, without labels, it is too kind. Folders in which versions are being written are
    hidden, and are not shown.
    """
    from serving.catalogue import CatalogueError, versions

    try:
        there = versions(model_base_path)
    except (CatalogueError, OSError) as error:
        raise fail(error) from None
    if as_json:
        typer.echo(json.dumps([_as_json(version, version is there[0]) for version in there], indent=1))
    elif there:
        _print_table(there)
    else:
        typer.echo(f"{model_base_path} holds no version, a folder whose name is a number", err=True)


@app.command()
def rollback(
    model_base_path: BasePath,
    to: Annotated[int | None, typer.Option(help="Version to serve again (default: the one before the newest).")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "",
) -> None:
    """Serve an older version again.

    It is copied and becomes the next number, as servers always take the highest and labels name it. Its card says
    which version it is again.
    """
    from serving.catalogue import CatalogueError, left_in_8_bits, roll_back
    from serving.inspection import Version

    try:
        published = roll_back(model_base_path, to, reason)
        again = Version.read(int(published.name), published).again
    except (CatalogueError, OSError) as error:
        raise fail(error) from None
    typer.echo(f"published {published}, which is version {again} again")
    if left := left_in_8_bits(model_base_path, published):
        typer.echo(
            f"servers that compute in 8 bits go on with version {left.number}: `earshot models quantize` lets them "
            "take this one, or serve it with another --precision",
            err=True,
        )


@app.command()
def promote(
    candidate: Annotated[
        Path,
        typer.Argument(help="Folder of a version, or of several: the newest; not in --model-base-path."),
    ],
    model_base_path: BasePath,
    data: Annotated[str, typer.Option(help="Labelled clips to judge on, as `earshot retrain` takes them.")] = "",
    class_map: Annotated[Path | None, typer.Option(help="Table of their names, as for `earshot retrain`.")] = None,
    folds: Annotated[str, typer.Option(help="Folds of them to judge on: all, or 1,2.")] = "all",
    background: Annotated[
        str, typer.Option(help="Sounds of no class, as for `earshot retrain`: false accepts of both are said and kept.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Publish it even if no better, or lacking classes.")] = False,
) -> None:
    """Publish a version if it serves and is better.

    A model server of its own has to load it and answer its warm-up requests, and its signatures have to take what
    those of the newest version take. Then both are asked for the first 3 s of the same clips, which are new to both,
    and the candidate has to be better beyond doubt: the lower end of the one-sided 95 % interval of the difference,
    over recordings, is above zero. It also has to know every class that the newest version knows. What both make of
    background decides nothing. Exit status 1: it was refused, and nothing is published.
    """
    with needs("training"):
        from rich.console import Console

        from local.interrupts import Interrupts
        from serving.inspection import read_json
        from serving.layout import PROMOTION_FILE
        from training.release.promotion import FAILURES, Promotion, Refused
        from training.release.promotion import promote as judge_and_publish

    logs_as_set()
    try:
        with Interrupts():
            order = Promotion(
                candidate,
                model_base_path,
                data=folders_of(data),
                class_map=class_map,
                folds=folds,
                background=folders_of(background),
                force=force,
            )
            published = judge_and_publish(order, Console(highlight=False, markup=False, soft_wrap=True))
    except Refused as error:
        typer.secho(f"earshot: {error}", fg="red", err=True)
        raise typer.Exit(REFUSED) from None
    except (*FAILURES, OSError) as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise interrupted("`earshot models list` shows what is published") from None
    forced = read_json(published / PROMOTION_FILE).get("forced") is True
    typer.echo(f"published {published}{' by force' if forced else ''}")


@app.command()
def quantize(
    model_base_path: BasePath,
    data: Annotated[str, typer.Option(help="Labelled clips, those it was trained on among them.")],
    class_map: Annotated[Path | None, typer.Option(help="Table of their names, as for `earshot retrain`.")] = None,
    version: Annotated[int | None, typer.Option(help="Version to quantize (default: the newest).")] = None,
) -> None:
    """Let a version be served in 8 bits, with `earshot serve --engine openvino --precision int8`.

    What its network does is measured on clips that it was trained on, and what it names in float32 and in 8 bits is
    compared on clips that it was not trained on, or else on others of the same. The outcome, some 100 KB, is put into
    the version, so this needs a machine that has the clips; a candidate is quantized before it is promoted. Exit status
    1: they name too many clips differently, and nothing was written.
    """
    with needs("training"):
        from rich.console import Console

        from serving.catalogue import CatalogueError, find_version
        from training.data.datasets import DataError, find_clips, read_class_map
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with needs("openvino"):
        from serving.engines.conversion import CannotConvert
        from serving.engines.int8 import NotQuantised
        from serving.engines.openvino_engine import AnswersDiffer
        from serving.failures import CannotLoadNow
        from training.release.quantising import quantise

    logs_as_set()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        names = read_class_map(class_map) if class_map else None
        clips = find_clips(*folders_of(data), class_map=names, least_classes=1)
        int8, written = quantise(find_version(model_base_path, version).folder, clips, console)
    except (NotQuantised, AnswersDiffer) as error:
        typer.secho(f"earshot: {error}", fg="red", err=True)
        raise typer.Exit(REFUSED) from None
    except (CatalogueError, DataError, CannotConvert, CannotLoadNow, OSError) as error:
        raise fail(error) from None
    console.print(int8.sentence())
    typer.echo(f"wrote {written}")


def _as_json(version: Version, latest: bool) -> dict[str, object]:
    from serving.inspection import timestamp

    return {
        "version": version.number,
        "made": timestamp(version.made),
        "classes": version.classes,
        "accuracy": version.accuracy,
        "judged_on": version.judged_on or None,
        "judged_clips": version.judged_clips or None,
        "judged_heard": version.judged_heard,
        "size_bytes": version.size_bytes,
        "latest": latest,
        "whole": not version.lacks,
        "lacks": version.lacks or None,
        "in_8_bits": version.in_8_bits,
        "again": version.again,
        "forced": version.forced,
    }


def _print_table(there: list[Version]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    notes_column = Column("", overflow="fold")  # whole names of files, however narrow the terminal
    table = Table("version", "made (UTC)", "classes", "accuracy", "size", notes_column, box=None, pad_edge=False)
    for version in there:
        notes = ["latest"] if version is there[0] else []
        notes += ["8 bits"] if version.in_8_bits else []
        notes += [f"version {version.again} again"] if version.again is not None else []
        notes += [f"weights have heard {version.judged_heard} of these clips"] if version.judged_heard else []
        notes += ["published by force"] if version.forced else []
        notes += [f"not whole: lacks {version.lacks}"] if version.lacks else []
        table.add_row(
            str(version.number),
            f"{version.made:%Y-%m-%d %H:%M}",
            "" if version.classes is None else str(version.classes),
            ""
            if version.accuracy is None
            else f"{version.accuracy:.1%} of {version.judged_clips} ({version.judged_on})",
            f"{version.size_bytes / 1e6:.1f} MB",
            ", ".join(notes),
        )
    Console(highlight=False).print(table)
