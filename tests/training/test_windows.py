from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from earshot.audio import windows
from earshot.labels import UNKNOWN
from earshot.spectrogram import DEFAULT_PARAMS, spectrogram
from tests.training.sounds import tone
from training.data.clips import Clip, load_clip
from training.data.windows import write_windows

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_say_where_the_windows_of_each_clip_are(tmp_path: Path) -> None:
    paths = [tone(tmp_path / "short.wav", 1.0), tmp_path / "broken.wav", tone(tmp_path / "long.wav", 4.0)]
    paths[1].write_bytes(b"no sound")
    clips = [Clip(path, "tone", 1, path.name) for path in paths]
    made = write_windows(clips, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert [clip.path.name for clip in made.rows] == ["short.wav", "long.wav"]
    assert len(made.unreadable) == 1
    assert "broken.wav" in made.unreadable[0]
    long = made.rows[clips[2]]
    assert (list(long.heard), list(long.trained)) == ([2, 3], [2, 4, 5, 6, 7])  # the padded tail is judged alone
    assert len(made.images) == 8
    assert made.images[range(8)].shape == (8, DEFAULT_PARAMS.mels, DEFAULT_PARAMS.frames(), DEFAULT_PARAMS.channels)
    for row, window in zip(long.heard, windows(load_clip(paths[2])), strict=True):
        np.testing.assert_array_equal(made.images[[row]][0], spectrogram(window))
    np.testing.assert_array_equal(made.images[np.array([3, 0])], made.images[range(4)][[3, 0]])


def test_background_has_fewer_windows_so_that_an_hour_of_it_fits(tmp_path: Path) -> None:
    path = tone(tmp_path / "long.wav", 7.0)
    sound, room = (Clip(path, label, 1, label) for label in ("tone", UNKNOWN))
    made = write_windows([sound, room], tmp_path / "out")
    assert [made.rows[clip].roles.count for clip in (sound, room)] == [12, 5]


def test_without_a_clip_that_can_be_read_there_are_no_windows(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    made = write_windows([Clip(tmp_path / "broken.wav", "tone", 1, "broken")], tmp_path / "out")
    assert (len(made.images), made.rows, len(made.unreadable)) == (0, {}, 1)
