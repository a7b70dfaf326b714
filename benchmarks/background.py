"""What a model makes of sounds of no class, on whole folds that it never saw, with and without learning background.

Voices, music and air conditioners (three of UrbanSound8K's classes) stand for background, the other seven are classes;
with --all-classes all ten are. A model of the classes alone is compared with models that learnt as `unknown` the
background of the other folds, noises that `training.data.noises` made for these, or both. All answer the background
and the noises of the fold that they never saw, and noises that are made here, in ways of their own: silence with a
sensor's own noise, white, pink and brown noise, and the hum of the mains.

    python -m benchmarks.background UrbanSound8K WEIGHTS [FOLD ...] [--generated 60] [--all-classes]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from earshot.audio import SAMPLE_RATE_HZ
from earshot.labels import UNKNOWN
from training.data.background import is_generated
from training.data.clips import Clip
from training.data.datasets import find_clips
from training.data.noises import make_noises
from training.evaluation.answers import Answers
from training.evaluation.metrics import judge
from training.recipes import recipe_of
from training.settings import RetrainSettings
from training.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

BACKGROUND = ("air_conditioner", "children_playing", "street_music")
NOISES = {"silence": None, "white noise": 0.0, "pink noise": 1.0, "brown noise": 2.0, "mains hum": None}
"""Slope of each noise's power over frequency, as a power of its inverse."""
NOISE_S = 180
NO_FOLD = 0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("folds", type=int, nargs="*", default=[1, 2])
    parser.add_argument(
        "--generated", type=int, default=60, help="noises, as --generated-background of `earshot retrain`"
    )
    parser.add_argument("--all-classes", action="store_true")
    parser.add_argument("--cache", type=Path, help="as for `earshot retrain`")
    options = parser.parse_args()
    names = {} if options.all_classes else dict.fromkeys(BACKGROUND, UNKNOWN)
    with TemporaryDirectory() as folder:
        clips = find_clips(options.data, class_map=names)
        clips += make_noises(options.generated, sorted({clip.fold for clip in clips}), 0, Path(folder))
        clips += _noises(Path(folder))
        settings = RetrainSettings.model_validate({"cache": options.cache})
        recipe = recipe_of(settings, clips, load_weights(options.weights))
    judged = [clip for clip in recipe.clips if clip.fold != NO_FOLD]
    noises = [clip for clip in recipe.clips if clip.fold == NO_FOLD]
    classes = tuple(sorted({clip.label for clip in judged} - {UNKNOWN}))
    ways: dict[str, Callable[[Clip], bool]] = {
        "not heard": lambda _: False,
        "generated learnt": is_generated,
        "learnt": lambda clip: not is_generated(clip),
        "learnt, and generated": lambda _: True,
    }
    if options.all_classes:
        del ways["learnt"], ways["learnt, and generated"]
    results: dict[str, list[Answers]] = {how: [] for how in ways}
    named: dict[str, Counter[str]] = {how: Counter() for how in ways}
    for fold in options.folds:
        unseen = [clip for clip in judged if clip.fold == fold]
        for how, learnt in ways.items():
            seen = [clip for clip in judged if clip.fold != fold and (clip.label != UNKNOWN or learnt(clip))]
            own = (*classes, UNKNOWN) if how != "not heard" else classes
            model = recipe.train(seen, own)
            results[how].append(Answers.of(recipe.scores(model, unseen), own, model.thresholds))
            heard = Answers.of(recipe.scores(model, noises), own, model.thresholds)
            for clip, wrong, best in zip(heard.clips, ~heard.unknown, heard.answered, strict=True):
                named[how][clip.source] += int(wrong)
                named[how][f"{clip.source}: {own[best]}"] += int(wrong)
    for how, answers in results.items():
        _print(how, answers, named[how], len(options.folds))


def _noises(folder: Path) -> list[Clip]:
    clips: list[Clip] = []
    for name, slope in NOISES.items():
        path = folder / f"{name}.wav"
        soundfile.write(path, _noise(name, slope, np.random.default_rng(len(clips))), SAMPLE_RATE_HZ)
        clips.append(Clip(path, UNKNOWN, NO_FOLD, name))
    return clips


def _noise(name: str, slope: float | None, rng: np.random.Generator) -> NDArray[np.float64]:
    """Three minutes, -30 dBFS; silence is at -75 dBFS, and no quieter than 16 bit can tell."""
    count = NOISE_S * SAMPLE_RATE_HZ
    sound = rng.normal(size=count)
    if name == "silence":
        return np.asarray(10 ** (-75 / 20) * sound)
    if name == "mains hum":
        time_s = np.arange(count) / SAMPLE_RATE_HZ
        sound = sum((np.sin(2 * np.pi * 50 * n * time_s) / n for n in (1, 2, 3, 5)), 0.01 * sound)
    if slope:
        spectrum = np.fft.rfft(sound)
        spectrum[1:] *= np.arange(1, len(spectrum)) ** (-slope / 2)
        spectrum[0] = 0
        sound = np.fft.irfft(spectrum, count)
    return np.asarray(10 ** (-30 / 20) * sound / sound.std()).clip(-1, 1)


def _print(how: str, answers: Sequence[Answers], named: Counter[str], folds: int) -> None:
    figures = [judge(one) for one in answers]
    print(f"background {how}:")
    for fold in figures:
        unknown = fold["unknown"]
        kept = (1 - unknown["share"]) * unknown["accuracy_of_answered"] if unknown else fold["accuracy"]
        print(
            f"  a fold: {fold['accuracy']:.1%} of {fold['clips']} clips named right, {kept:.1%} labelled right, "
            f"{unknown['share'] if unknown else 0:.1%} unknown"
        )
        for kind in ("background", "generated_background"):
            if heard := fold[kind]:
                print(
                    f"    {kind}: {heard['false_accepts_per_hour']:.0f} false accepts an hour, {heard['segments']} "
                    f"segments: {heard['named']}"
                )
    hours = folds * NOISE_S / 3600
    for name in NOISES:
        what = {key.partition(": ")[2]: count for key, count in named.items() if key.startswith(f"{name}: ") and count}
        print(f"  {name}: {named[name] / hours:.0f} an hour {what or ''}")


if __name__ == "__main__":
    main()
