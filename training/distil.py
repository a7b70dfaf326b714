"""Teaches Inception V3 to hear: it learns from any sounds what an audio teacher says of them, without a label.

python -m training.distil sounds --teacher tiny.onnx --out sound.npz, and then `earshot retrain --weights sound.npz`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from earshot.command import APP, TRY_AGAIN, USAGE_ERROR, fail, interrupted, logs_as_set, needs
from earshot.folders import NotWritable, cache_folder, require_writable
from training.settings import SHRINK, folders_of, shrink_of

if TYPE_CHECKING:
    from training.data.clips import Clip

app = typer.Typer(**APP)


@app.command()
def main(
    sounds: Annotated[str, typer.Argument(help="Folders of recordings, separated by commas, each heard as often.")],
    teacher: Annotated[Path, typer.Option(help="ONNX network that takes sound [batch, samples] at 16 kHz.")],
    out: Annotated[Path, typer.Option(help="File that gets the weights, as `earshot retrain --weights` takes them.")],
    data: Annotated[
        str,
        typer.Option(help="Data sets, as for `earshot retrain`; their clips are heard too, as often as one folder."),
    ] = "",
    hold_out: Annotated[str, typer.Option(help="Folds of --data that are not heard, and so can judge, as 1,2.")] = "",
    weights: Annotated[
        str,
        typer.Option(
            help="Inception V3 to start from, as for `earshot retrain`; several that were taught on from the same "
            "weights, separated by commas, are averaged."
        ),
    ] = "imagenet",
    last: Annotated[
        str, typer.Option(help="Block of Inception V3 that is the last one to be taught; empty: as before, or mixed7.")
    ] = "",
    shrink: Annotated[
        str, typer.Option(help="Mel bands and frames that are averaged into one; empty: as before, or 1,3.")
    ] = "",
    views: Annotated[int, typer.Option(min=100, help="Views that are made of the sounds.")] = 25_000,
    epochs: Annotated[int, typer.Option(min=1, help="How often each view is learnt from.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=0, max=1, help="Highest learning rate.")] = 8e-4,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Compute in bfloat16: faster where CPU or GPU has it.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder for what an unfinished run goes on from.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is random.")] = 0,
) -> None:
    """Teach Inception V3 to hear, from sounds without labels.

    Views are made of the sounds: moved in time and pitch, two at once, with noise. An audio teacher, a network
    that was trained on millions of sounds, says what it hears in each, and Inception V3 learns to say the same of its
    spectrogram. Weights that were taught before go on learning, of the same block and size unless another is named. A
    run that is killed goes on where it was if it is given the same again.
    """
    logs_as_set()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # TensorFlow leaves it off on some CPUs
    console = Console(markup=False)
    with needs("training"):
        from serving.network import Architecture, NetworkError, feature_network
        from training.data.datasets import DataError
        from training.data.heard import marks
        from training.finetuning.learner import Pace, learn
        from training.recipe import NotConverged
        from training.teaching.pieces import cut_pieces
        from training.teaching.taught import Taught, write_views
        from training.teaching.teacher import Teacher, TeacherError
        from training.weights import WeightsError, WeightsOutOfReach, load_averaged, save_weights
    if not re.fullmatch(SHRINK, shrink):
        raise fail(f"--shrink takes two numbers of 1 to 8, as 1,3, and not {shrink}")
    pace = Pace(
        epochs, 64, learning_rate, warm_up=0.06, lower_rate=1.0, weight_decay=0.02, dropout=0.1, bfloat16=bfloat16
    )
    folder = (cache or cache_folder()) / "distilling"
    try:
        require_writable(out)
        start = load_averaged(weights)
        before = start.architecture or Architecture(("mixed7",), 1, shrink=(1, 3))
        size = shrink_of(shrink, before.shrink)
        architecture = Architecture((last or before.taps[-1],), 1, start.input_range, size, before.inceptions)
        feature_network(architecture, start.blocks)  # raises NetworkError now, not when all views are made
        listened = Teacher(teacher)
        kinds = _kinds(sounds, data, hold_out)
        heard = None if start.heard is None else start.heard.union(*map(marks, kinds))
        pieces, unreadable = cut_pieces(kinds, folder)
        console.print(f"{len(pieces)} pieces of sound, {pieces.hours:.1f} hours; {len(unreadable)} files hold none")
        made = write_views(pieces, views, listened, seed, folder)
        run = json.dumps([made.digest, start.digest, architecture.to_json(), asdict(pace), seed])
        lesson = Taught(made, pace, seed, start.readout if start.architecture == architecture else None)
        console.print(f"{', '.join(architecture.taps)}, {'as taught before' if lesson.readout else 'with a new layer'}")
        kept = folder / hashlib.sha256(run.encode()).hexdigest()[:16]
        learnt = learn(lesson, architecture, start.blocks, pace, seed, kept, "distilling")
        save_weights(learnt.blocks, architecture, learnt.head, out, heard, start.notes)
    except (DataError, NetworkError, NotConverged, NotWritable, TeacherError, WeightsError) as error:
        raise fail(error, TRY_AGAIN if isinstance(error, WeightsOutOfReach) else USAGE_ERROR) from None
    except OSError as error:
        raise fail(f"{error}; mend that and start again, it goes on where it was") from None
    except KeyboardInterrupt:
        raise interrupted("the same command goes on where it was") from None
    shutil.rmtree(kept, ignore_errors=True)
    made.remove()
    for one in learnt.history:
        console.print(f"epoch {one['epoch']}: {one['val_loss']:.3f} of the teacher's variance is unaccounted for")
    console.print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB), for `earshot retrain --weights {out}`")


def _kinds(sounds: str, data: str, hold_out: str) -> list[list[Clip]]:
    """Recordings of each folder, and the clips of all data sets; each kind is heard as often as another."""
    from training.data.datasets import DataError, chosen_folds, find_background, find_clips

    kinds = [find_background([each]) for each in folders_of(sounds)]
    if data:
        clips = find_clips(*folders_of(data), least_classes=1)
        held_out = chosen_folds(hold_out, clips)
        kinds.append([clip for clip in clips if clip.fold not in held_out])
    elif hold_out:
        raise DataError("--hold-out is of the folds of a data set; name it with --data")
    return kinds


if __name__ == "__main__":
    app()
