"""The report as one HTML page that needs nothing beside it: no script, no font and no picture from elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from earshot.labels import UNKNOWN
from training.data.clips import ClipUnreadable
from training.data.hearing import hear
from training.evaluation import plots
from training.evaluation.metrics import by_chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
$body
</body>
</html>
""")
NOTHING = "-"
WHY_RANDOM_IS_HIGHER = (
    "The random split has clips of one recording on both sides: it tells how well recordings are known again, "
    "the folds how well sounds are."
)


def page(run: Mapping[str, Any]) -> str:
    """The page of a run's report (JSON values, see `training.evaluation.report`); it hears the worst mistakes."""
    parts = [f"<h1>{escape(run['title'])}</h1>", _intro(run)]
    if run.get("pooled"):
        title = "The recipe, on folds whose labels its models never saw" if run.get("held_out") else ""
        parts += _judged(title, run["pooled"], run["class_names"])
    if len(run["folds"]) > 1:
        parts += [_folds(run["folds"])]
    if run.get("random_split"):
        share = run["random_split"]["accuracy"]
        parts += [f"<h3>A random split</h3><p>{share:.1%} of the clips by their first 3 s. {WHY_RANDOM_IS_HIGHER}</p>"]
    if run.get("held_out"):
        parts += _judged(
            "The published model, on the folds whose labels it never saw", run["held_out"], run["class_names"]
        )
    elif run.get("notes"):
        parts += ["<h2>The published model</h2>", _notes(run["notes"])]
    if run.get("learning_curves"):
        curves = plots.learning_curves(run["learning_curves"])
        parts += [
            "<h2>Learning curves</h2>",
            f'<p class="quiet">{_of_curves(run["learning_curves"])}</p>',
            f'<div class="wide">{curves}</div>',
        ]
    parts += ["<h2>The run</h2>", "<h3>Time and memory</h3>", plots.durations(run["seconds"])]
    most = max(run["peak_memory_mb"].values())
    parts += [f"<p>{most:,} MB of memory at most. {_reached(run['peak_memory_mb'])}</p>"]
    parts += [_unreadable(run["unreadable"]), _answers(run), _pairs("Settings", run["settings"])]
    parts += [_pairs("Versions", run["packages"])]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return PAGE.substitute(title=escape(run["title"]), style=style, body="\n".join(filter(None, parts)))


def _intro(run: Mapping[str, Any]) -> str:
    data = escape(", ".join(filter(None, (run["settings"].get(name) for name in ("data", "image_dir")))))
    skipped = f", {len(run['unreadable'])} could not be read" if run["unreadable"] else ""
    classes = sum(name != UNKNOWN for name in run["class_names"])
    background = f", {run['background_clips']:,} of no class" if run["background_clips"] else ""
    lines = [f"{run['clips']:,} clips of {classes} classes{background}: {data}{skipped}"]
    if run.get("thin_classes"):
        thin = ", ".join(f"{name} ({recordings})" for name, recordings in run["thin_classes"].items())
        lines.append(f"Classes of few recordings, whose figures say little: {escape(thin)}")
    return f'<p class="quiet">{"<br>".join(lines)}</p>'


def _judged(title: str, judged: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """Everything of one set of clips."""
    parts = [f"<h2>{escape(title)}</h2>" if title else "", _figures(judged)]
    if judged["notes"]:
        parts.append(_notes(judged["notes"]))
    calibrations = {"scores as answered": judged["calibration"]}
    if judged.get("calibration_before"):
        calibrations = {"before calibration": judged["calibration_before"], "after": judged["calibration"]}
    parts += [
        "<h3>Confusion</h3>",
        '<p class="quiet">Clips by truth and best class, whatever its score; the deeper, the larger the share of its '
        "row.</p>",
        f'<div class="wide">{plots.confusion_matrix(judged["confusion"], class_names)}</div>',
        "<h3>Classes</h3>",
        *_classes(judged["classes"], labels=judged["unknown"] is not None),
    ]
    if curves := plots.precision_recall(judged["classes"]):
        parts += [
            "<h3>Precision and recall</h3>",
            '<p class="quiet">Each class against all others, with its average precision, the lowest first; '
            "dotted: guessing.</p>",
            f'<div class="wide">{curves}</div>',
        ]
    parts += [
        "<h3>Reliability</h3>",
        '<p class="quiet">How often an answer is right, by its score. On the dashed line a score is the probability '
        "of being right; below it the model is too sure. Of models whose scores are those probabilities nineteen in "
        "twenty would show no larger calibration error than the one by chance, on as many recordings whose clips are "
        "right or wrong together.</p>",
        plots.reliability(calibrations),
        _mistakes(judged["worst"]),
    ]
    return parts


def _of_curves(curves: Sequence[Mapping[str, float]]) -> str:
    """What the losses are of, so that nobody holds one against the other."""
    lines = "loss: of the clips that the model learnt from, augmented where they were, with smoothed labels."
    if any(name.startswith("val_") for epoch in curves for name in epoch):
        lines += (
            " val_loss and the like: of the networks that calibrate it, the mean, each on the clips that it was "
            "trained without, as they are."
        )
    return lines


def _notes(notes: Sequence[str]) -> str:
    return f'<div class="notes">{"".join(f"<p>{escape(note)}</p>" for note in notes)}</div>'


def _figures(judged: Mapping[str, Any]) -> str:
    low_high = judged["accuracy_95"]
    interval = f", 95 %: {_percent(low_high[0])} to {_percent(low_high[1])}" if low_high else ""
    calibration = judged["calibration"]
    uncalibrated = judged.get("calibration_before")
    before = f", {_number(uncalibrated['ece'])} before calibration" if uncalibrated else ""
    temperature = f"; temperature {judged['temperature']:g}" if "temperature" in judged else ""
    tiles = [
        (_percent(judged["accuracy"]), f"best class right, the first 3 s{interval}"),
        (_percent(judged["clip_accuracy"]), "best class right, whole clips"),
        (_number(judged["macro_f1"]), "macro F1"),
        (
            _number(calibration["ece"]),
            f"calibration error{before}{by_chance(calibration)}{temperature}; Brier {_number(calibration['brier'])}, "
            f"negative log likelihood {_number(calibration['nll'])}",
        ),
        (f"{judged['clips']:,}", f"clips of {judged['recordings']:,} recordings"),
    ]
    if judged["unknown"]:
        right = _percent(judged["unknown"]["accuracy_of_answered"])
        tiles[1:1] = [
            (_percent(judged["labels_right"]), "labels right, of all clips: an <i>unknown</i> is not"),
            (_percent(judged["unknown"]["share"]), f"of labels are <i>unknown</i>; {right} of the others right"),
        ]
    for what in ("generated_background", "background"):
        if heard := judged[what]:
            named = ", ".join(f"{count} {escape(name)}" for name, count in heard["named"].items())
            whose = f"{what.replace('_', ' ')}, of {heard['segments']:,} segments{named and f': {named}'}"
            tiles.insert(-1, (f"{heard['false_accepts_per_hour']:,}", f"false accepts an hour of {whose}"))
    return f'<div class="figures">{"".join(f"<div><b>{a}</b><span>{b}</span></div>" for a, b in tiles)}</div>'


def _classes(classes: Mapping[str, Mapping[str, Any]], *, labels: bool) -> list[str]:
    """Figures of each class; labels: of what a worker would say too, where that may be something else."""
    keys = {"precision": "precision", "recall": "recall", "F1": "f1"}
    caption = []
    if labels:
        keys |= {"precision of labels": "label_precision", "recall of labels": "label_recall", "threshold": "threshold"}
        caption.append(
            '<p class="quiet">Precision, recall and F1 are of the best class, whatever its score. Labels are '
            "<i>unknown</i> below the threshold of their class, and false accepts are counted from labels; models of "
            "several folds have a threshold each.</p>"
        )
    keys |= {"average precision": "average_precision", "ROC AUC": "roc_auc"}
    rows = (
        [name, f"{one['support']:,}", *(_number(one[key]) for key in keys.values())] for name, one in classes.items()
    )
    return [*caption, _table(["class", "clips", *keys], rows)]


def _folds(folds: Mapping[str, Mapping[str, Any]]) -> str:
    head = ["fold", "clips", "recordings", "best class right", "95 %", "whole clips", "macro F1", "calibration error"]
    lines = [
        [
            *(fold, f"{one['clips']:,}", f"{one['recordings']:,}", _percent(one["accuracy"])),
            " to ".join(map(_percent, one["accuracy_95"])) if one["accuracy_95"] else NOTHING,
            *(_percent(one["clip_accuracy"]), _number(one["macro_f1"]), _number(one["calibration"]["ece"])),
        ]
        for fold, one in folds.items()
    ]
    return f"<h3>Folds</h3>\n{_table(head, lines)}"


def _mistakes(worst: Sequence[Mapping[str, Any]]) -> str:
    if not worst:
        return "<h3>Mistakes</h3>\n<p>None.</p>"
    return (
        "<h3>Mistakes that the model was surest of</h3>\n"
        '<p class="quiet">One of each recording, with the scores of the answer and of the truth. What the model saw: '
        f"{plots.SOUND_CAPTION}.</p>\n"
        f'<div class="mistakes">{"".join(map(_mistake, worst))}</div>'
    )


def _reached(peaks: Mapping[str, int]) -> str:
    return "By the end of " + ", ".join(f"{escape(stage)}: {peak:,} MB" for stage, peak in peaks.items()) + "."


def _mistake(one: Mapping[str, Any]) -> str:
    try:
        picture = f'<img alt="spectrogram" src="{plots.sound(hear(Path(one["path"])).back_to_back[0]())}">'
    except ClipUnreadable:
        picture = '<div class="gone">the clip can no longer be read</div>'
    truth = _number(one["score_of_truth"]) if one["score_of_truth"] is not None else "not one of the model's"
    others = one["mistakes"] - 1
    more = f"<br>{others} more of this recording" if others else ""
    return (
        f"<figure>{picture}<figcaption><b>{escape(one['segment'])}</b> {one['score']:.3f}<br>"
        f"truth {escape(one['truth'])} {truth}{more}<code>fold {one['fold']}: {escape(one['clip'])}</code>"
        "</figcaption></figure>\n"
    )


def _answers(run: Mapping[str, Any]) -> str:
    """Every clip, closed until it is asked for."""
    judged = [("a model of its recipe", one) for one in run["folds"].values()]
    if run.get("held_out"):
        judged.append(("the published model", run["held_out"]))
    both = len({model for model, _ in judged}) == 2
    cells = []
    for model, row in ((model, row) for model, one in judged for row in one["answers"]):
        wrong = [' class="wrong"' if row[key] != row["truth"] else "" for key in ("segment", "label", "clip_mean")]
        cells.append(
            f'<tr><td>{escape(row["clip"])}</td><td class="number">{row["fold"]}</td><td>{escape(row["truth"])}</td>'
            f'<td{wrong[0]}>{escape(row["segment"])}</td><td class="number">{row["score"]:.2f}</td>'
            f"<td{wrong[1]}>{escape(row['label'])}</td>"
            f"<td{wrong[2]}>{escape(row['clip_mean'])}</td>{f'<td>{model}</td>' if both else ''}</tr>"
        )
    names = ("clip", "fold", "truth", "first 3 s", "score", "label", "whole clip", *(["answered by"] if both else []))
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    lines = "\n".join(cells)
    return f'<details><summary>Every answer</summary><div class="wide"><table>{head}\n{lines}</table></div></details>'


def _unreadable(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<details><summary>Clips that could not be read ({len(lines)})</summary><ul>{items}</ul></details>"


def _pairs(title: str, values: Mapping[str, Any]) -> str:
    rows = ([name, NOTHING if value is None else str(value)] for name, value in values.items())
    return f"<details><summary>{title}</summary>{_table(['name', 'value'], rows, numbers=False)}</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """A table; all columns but the first are of numbers, or none is."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = ["", *([' class="number"' if numbers else ""] * (len(cells) - 1))]
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "\n".join(f"<tr>{line('td', cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table><tr>{line("th", head)}</tr>\n{body}</table></div>'


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}".replace("%", "\N{NO-BREAK SPACE}%")


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"
