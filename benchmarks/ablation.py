"""What each part of the recipe is worth: named variants of it on whole unseen folds, over seeds, as a Markdown table.

A fold is answered by a model of all the others. Accuracy is of a clip's first 3 s, calibration error the mean of the
folds', ± the standard deviation over seeds. Where the weights learnt from sounds of all folds but the one judged,
`{fold}` in WEIGHTS stands for its number. `inner` is the accuracy inside the training clips, recordings held out:
what a variant may be chosen by, for a test fold chooses nothing; too kind where the weights have heard these clips,
unless --calibrate-by names some that have not. The variants of fine-tuning train the whole network each time, which
takes hours.

    python -m benchmarks.ablation UrbanSound8K 'without{fold}.npz' [--method finetune] [--variants NAME ...] [--seeds 3]
"""

from __future__ import annotations

import argparse
import math
import os
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib as mpl
import numpy as np

from earshot.folders import cache_folder
from earshot.spectrogram import DEFAULT_PARAMS, SpectrogramParams, spectrogram
from training.data.datasets import find_clips
from training.evaluation.judging import judged_without
from training.evaluation.metrics import calibration
from training.finetuning.augment import PLAIN, Augmentation
from training.recipes import recipe_of
from training.settings import RetrainSettings
from training.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.data.clips import Clip
    from training.evaluation.judging import Judgement
    from training.recipe import Recipe
    from training.weights import Weights

AS_IT_IS = "as it is"
VIRIDIS = "one window of 50 ms, in viridis's colours"
FROZEN: dict[str, dict[str, Any]] = {
    AS_IT_IS: {},
    "classes count alike": {"balance": True},
    "1 band": {"bands": 1},
    "2 bands": {"bands": 2},
    "frames shrunk by 2": {"shrink": "1,2"},
    VIRIDIS: {},
    "mixed3 alone": {"taps": "mixed3"},
    "mixed2 alone": {"taps": "mixed2"},
    "mixed5 alone": {"taps": "mixed5"},
    "mixed2, mixed3 and mixed5": {"taps": "mixed2,mixed3,mixed5"},
}
"""Settings that each variant of the head on frozen features changes."""
TUNED: dict[str, dict[str, Any]] = {
    AS_IT_IS: {},
    "augmented": {"augmentation": Augmentation()},
    "augmented, no mixup": {"augmentation": Augmentation(mixup=0)},
    "augmented, no SpecAugment": {"augmentation": Augmentation(masks=0)},
    "augmented, no time shift": {"augmentation": Augmentation(shift=0)},
    "augmented, no pitch shift": {"augmentation": Augmentation(pitch_bands=0)},
    "augmented, no tilt": {"augmentation": Augmentation(tilt=0)},
    "augmented, other sounds beside": {"augmentation": Augmentation(noise=0.5)},
    "not augmented": {"augmentation": PLAIN},
    "no label smoothing": {"label_smoothing": 0.0},
    "no dropout": {"dropout": 0.0},
    "upper blocks alone": {"freeze": "mixed4"},
    "one rate for all blocks": {"lower_rate": 1.0},
    "half of the epochs averaged": {"averaged": 0.5},
    "batch normalisation measured anew": {"norms": True},
}
"""What each variant of fine-tuning changes of its schedule, which augments by weights of pictures. There is no gain:
images are scaled to their peak."""


def main() -> None:
    """Print a row as soon as its variant is judged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", help="a file; {fold} in its name stands for the fold that is judged")
    parser.add_argument("--calibrate-by", default="", help="as for `earshot retrain`")
    parser.add_argument("--method", choices=("bottlenecks", "finetune"), default="bottlenecks")
    parser.add_argument("--variants", nargs="+", help="some of those of the method; by default all")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=3)
    tuning = parser.add_argument_group("fine-tuning, as for `earshot retrain`", argument_default=argparse.SUPPRESS)
    tuning.add_argument("--epochs", type=int)
    tuning.add_argument("--learning-rate", type=float)
    tuning.add_argument("--shrink")
    tuning.add_argument("--bfloat16", action="store_true")
    tuning.add_argument(
        "--uncalibrated", action="store_true", help="train no networks to calibrate by: it takes a fifth of the time"
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="as for `earshot retrain`")
    options = parser.parse_args()
    asked = {
        name: vars(options)[name]
        for name in ("epochs", "learning_rate", "shrink", "bfloat16", "uncalibrated")
        if name in options
    }
    if asked and options.method == "bottlenecks":
        parser.error(f"{', '.join(asked)}: of --method finetune")
    uncalibrated = asked.pop("uncalibrated", False)
    variants = FROZEN if options.method == "bottlenecks" else TUNED
    if unknown := sorted(set(options.variants or ()) - set(variants)):
        parser.error(f"there is no variant {', '.join(unknown)}; there are: {'; '.join(variants)}")
    clips = find_clips(options.data)
    file_of = {fold: options.weights.replace("{fold}", str(fold)) for fold in options.folds}
    weights = {file: load_weights(file) for file in dict.fromkeys(file_of.values())}
    _print("variant", *(f"fold {fold}" for fold in options.folds), "mean", "calibration error", "inner")
    _print("---", *["---"] * (len(options.folds) + 3))
    for name in options.variants or variants:
        runs = []
        for seed in range(options.seeds):
            given = {name: vars(options)[name] for name in ("method", "cache", "calibrate_by")} | {"seed": seed}
            if options.method == "finetune":
                settings = RetrainSettings.model_validate(given | asked)
                recipes = {file: recipe_of(settings, clips, each, TUNED[name]) for file, each in weights.items()}
            else:
                recipes = {file: _frozen(name, given, clips, each) for file, each in weights.items()}
            with patch("training.finetuning.tuning.LEAST_CALIBRATING", math.inf) if uncalibrated else nullcontext():
                runs.append([_judged(recipes[file], fold) for fold, file in file_of.items()])
            for recipe in recipes.values():
                recipe.done()
        _print(name, *_figures(runs))


def _frozen(name: str, given: dict[str, Any], clips: list[Clip], weights: Weights) -> Recipe:
    with ExitStack() as stack:
        if name == VIRIDIS:  # other images of the same parameters, so their features are kept elsewhere
            given = {**given, "bottleneck_dir": given["cache"] / "bottlenecks-viridis"}
            stack.enter_context(patch("training.data.hearing.spectrogram", viridis))
        return recipe_of(RetrainSettings.model_validate({**given, **FROZEN[name]}), clips, weights)


def viridis(pcm: NDArray[np.int16], params: SpectrogramParams = DEFAULT_PARAMS) -> NDArray[np.uint8]:
    """The spectrogram through the middle window alone, uint8 [mels, frames, 3] of red, green and blue."""
    middle = params.window_samples[len(params.window_samples) // 2]
    colours = np.rint(255 * mpl.colormaps["viridis"](np.arange(256))[:, :3]).astype(np.uint8)
    return np.asarray(colours[spectrogram(pcm, replace(params, window_samples=(middle,)))[:, :, 0]])


def _judged(recipe: Recipe, fold: int) -> Judgement:
    names = tuple(sorted({clip.label for clip in recipe.clips}))
    return judged_without(recipe, [clip for clip in recipe.clips if clip.fold == fold], names)


def _figures(runs: Sequence[Sequence[Judgement]]) -> list[str]:
    """Cells of a row; `runs` has the judgements of all folds for each seed."""
    right = 100 * np.array([[one.answers.right.mean() for one in run] for run in runs])
    errors = np.array([np.mean([calibration(one.answers)["ece"] for one in run]) for run in runs])
    inner = [
        one.trained.chosen["inner_accuracy"] for run in runs for one in run if "inner_accuracy" in one.trained.chosen
    ]
    return [
        *(f"{share:.1f} %" for share in right.mean(axis=0)),
        _spread(right.mean(axis=1), 1, " %"),
        _spread(errors, 3),
        f"{100 * np.mean(inner):.1f} %" if inner else "-",
    ]


def _spread(values: NDArray[np.floating], digits: int, unit: str = "") -> str:
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}{unit}"


def _print(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
