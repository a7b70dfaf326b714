"""The report's pictures: SVG whose ink is the page's text colour, so that it is read on light and on dark, and PNG.

Every function takes JSON values as `training.evaluation.metrics` makes them, and returns text that stands in HTML as it
is.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections import defaultdict
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Rectangle

from earshot.audio import SEGMENT_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

INK = "#010203"
"""Stands for the page's text colour until the picture is written."""
BLUE, ORANGE = "#3f83d6", "#d9772b"
COLORS = (BLUE, ORANGE, "#4f9d69", "#a06cc4", "#b4a33c")
"""All are seen on white and on black."""
MOST_CURVES = 30
"""Precision-recall curves that are drawn, those of the least average precision."""

SOUND_CAPTION = f"{SEGMENT_S:g} s from left to right, 0 to 8 kHz (mel) from bottom to top"

_STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.0,
    "font.size": 9.0,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $5$
    "xtick.color": INK,
    "ytick.color": INK,
}


def confusion_matrix(confusion: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> str:
    """A heat map: a row each truth, a column each of the model's classes, as deep as its share of the row."""
    truths = [name for name in classes if name in confusion] + sorted(set(confusion) - set(classes))
    side = 0.42
    with mpl.rc_context(_STYLE):
        figure = Figure((2.6 + side * len(classes), 1.6 + side * len(truths)), layout="constrained")
        axes = figure.subplots()
        for row, truth in enumerate(truths):
            total = sum(confusion[truth].values())
            for answer, clips in confusion[truth].items():
                share, column = clips / total, classes.index(answer)
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=BLUE, alpha=share, linewidth=0))
                ink = "white" if share > 0.75 else INK
                axes.text(column, row, str(clips), ha="center", va="center", color=ink, fontsize=8)
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(truths)), truths)
        axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(truths) - 0.5, -0.5), xlabel="answer", ylabel="truth")
        axes.set_aspect("equal")
        axes.tick_params(length=0)
        for edge in np.arange(-0.5, len(classes)):
            axes.axvline(edge, color=INK, alpha=0.12, linewidth=0.6)
        for edge in np.arange(-0.5, len(truths)):
            axes.axhline(edge, color=INK, alpha=0.12, linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _svg(figure, "confusion matrix")


def precision_recall(classes: Mapping[str, Mapping[str, Any]]) -> str:
    """A small picture of each class's curve, the worst first; empty where no class has one."""
    drawn = sorted((one["average_precision"], name) for name, one in classes.items() if one["curve"])[:MOST_CURVES]
    if not drawn:
        return ""
    columns = min(5, len(drawn))
    lines = -(-len(drawn) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure((1.85 * columns + 0.4, 1.95 * lines + 0.3), layout="constrained")
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(drawn) :]:
            axes.set_visible(False)
        for axes, (area, name) in zip(grid.flat, drawn, strict=False):
            one = classes[name]
            chance = one["support"] / sum(each["support"] for each in classes.values())
            axes.axhline(chance, color=INK, alpha=0.4, linewidth=0.8, linestyle=":")
            axes.step(one["curve"]["recall"], one["curve"]["precision"], where="post", color=BLUE, linewidth=1.4)
            axes.set(xlim=(0, 1), ylim=(0, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
            axes.set_title(f"{_short(name)}  {area:.2f}", loc="left")
            axes.grid(visible=True)
        figure.supxlabel("recall", fontsize=9)
        figure.supylabel("precision", fontsize=9)
        return _svg(figure, "precision-recall curves")


def reliability(calibrations: Mapping[str, Mapping[str, Any]]) -> str:
    """Accuracy and clips over score, in bins, for each calibration by its title."""
    with mpl.rc_context(_STYLE):
        figure = Figure((3.6 * len(calibrations), 4.0), layout="constrained")
        grid = figure.subplots(2, len(calibrations), squeeze=False, sharex=True, height_ratios=(3, 1), sharey="row")
        for column, (title, one) in enumerate(calibrations.items()):
            upper, lower = grid[:, column]
            bins = [each for each in one["bins"] if each["clips"]]
            left, width = [each["low"] for each in bins], [each["high"] - each["low"] for each in bins]
            hits = [each["accuracy"] for each in bins]
            upper.bar(left, hits, width, align="edge", color=BLUE, alpha=0.75, edgecolor=INK, linewidth=0.4)
            upper.plot((0, 1), (0, 1), color=INK, alpha=0.6, linewidth=0.8, linestyle="--")
            points = [each["confidence"] for each in bins]
            upper.plot(points, hits, "o", color=ORANGE, markersize=3.5)
            upper.set(xlim=(0, 1), ylim=(0, 1.02), title=f"{title}: error {one['ece']:.3f}")
            lower.bar(left, [each["clips"] for each in bins], width, align="edge", color=INK, alpha=0.35, linewidth=0)
            lower.set(xlabel="score of the answer")
            for axes in (upper, lower):
                axes.grid(visible=True)
        grid[0, 0].set_ylabel("share that is right")
        grid[1, 0].set_ylabel("clips")
        return _svg(figure, "reliability diagram")


def learning_curves(epochs: Sequence[Mapping[str, float]]) -> str:
    """A picture for each quantity, as `loss` or `val_loss`, with all models' (`loss, fold 1`)."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(name for epoch in epochs for name in epoch if name != "epoch"):
        families[name.partition(",")[0]].append(name)
    if not families:
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure((3.3 * len(families), 2.6), layout="constrained")
        for axes, names in zip(figure.subplots(1, len(families), squeeze=False).flat, families.values(), strict=True):
            for name, color in zip(names, cycle(COLORS), strict=False):
                points = [(epoch["epoch"], epoch[name]) for epoch in epochs if epoch.get(name) is not None]
                marker = "o" if len(points) < 20 else None
                axes.plot(
                    *zip(*points, strict=True), color=color, linewidth=1.4, marker=marker, markersize=3, label=name
                )
            axes.set(xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(visible=True)
            axes.legend()
        return _svg(figure, "learning curves")


def durations(seconds: Mapping[str, float]) -> str:
    """A bar for each stage."""
    with mpl.rc_context(_STYLE):
        figure = Figure((7.0, 0.5 + 0.32 * len(seconds)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(list(seconds), list(seconds.values()), 0.6, color=BLUE)
        axes.bar_label(bars, [f"{value:,.1f} s" for value in seconds.values()], padding=4)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.tick_params(left=False, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        return _svg(figure, "seconds of each stage")


def sound(spectrogram: NDArray[np.uint8]) -> str:
    """A spectrogram (uint8 [mels, frames, channels]), low frequencies at the bottom: a PNG as a data URI."""
    image = spectrogram.mean(axis=2)  # a channel is one window length
    file = io.BytesIO()
    imsave(file, image, origin="lower", cmap="magma", vmin=0, vmax=255, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _svg(figure: Figure, title: str) -> str:
    file = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": title}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser has other fonts
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()[file.getvalue().index("<svg") :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # every picture has the same, and a page may have each once
    return svg.replace(INK, "currentColor").replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
