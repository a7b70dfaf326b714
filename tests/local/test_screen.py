from __future__ import annotations

import io

from rich.console import Console

from local.recordings import Recording
from local.screen import Screen, print_summary
from local.tally import Tally
from tests.local.test_tally import BARK, label


def shown(*, terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=120, no_color=True), text


def test_on_a_pipe_each_label_is_a_line() -> None:
    console, text = shown(terminal=False)
    with Screen(console) as screen:
        screen.show_label(label("a", {"siren": 0.75}), 120.0, "siren")
        screen.show_label(label("b", {"siren": 0.5}), None, None)
    lines = text.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].split()[1:] == ["d", "siren", "0.75", "120", "ms", "siren"]
    assert lines[2].split()[1:] == ["d", "siren", "0.50", "-", "-"]


def test_on_a_terminal_labels_are_a_table() -> None:
    console, text = shown(terminal=True)
    with Screen(console) as screen:
        screen.show_label(label("a", {"siren": 0.75}), 120.0, None)
        screen.show_status("1 segment on the way")
    assert "siren" in text.getvalue()
    assert "1 segment on the way" in text.getvalue()


def test_the_summary_shows_counts_and_where_the_truth_is_known_a_confusion_table() -> None:
    tally = Tally()
    tally.add_segment("a", BARK)
    tally.add_label(label("a", {"siren": 0.9}), 0)
    tally.add_played(BARK)
    console, text = shown(terminal=False)
    print_summary(console, tally.summary(1.0))
    assert "accuracy, recordings" in text.getvalue()
    assert "1 dog_bark" in text.getvalue()
    assert "2 siren" in text.getvalue()


def test_without_a_truth_the_summary_has_no_accuracy() -> None:
    tally = Tally()
    tally.add_segment("a", Recording(BARK.path, None))
    console, text = shown(terminal=False)
    print_summary(console, tally.summary(1.0))
    assert "accuracy" not in text.getvalue()


def test_names_in_brackets_are_shown_as_they_are() -> None:
    bracketed = Recording(BARK.path, "[bold]dogs[/nonsense] :dog:")
    for terminal in (False, True):
        console, text = shown(terminal=terminal)
        with Screen(console) as screen:
            screen.show_label(label("a", {"siren": 0.75}), None, bracketed.truth)
        assert str(bracketed.truth) in text.getvalue()
    tally = Tally()
    tally.add_segment("a", bracketed)
    tally.add_label(label("a", {"siren": 0.9}), 0)
    tally.add_played(bracketed)
    console, text = shown(terminal=False)
    print_summary(console, tally.summary(1.0))
    assert str(bracketed.truth) in text.getvalue()
