from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from producers.frames import FRAME_SAMPLES, Framer


@given(st.lists(st.integers(0, 2000), max_size=20))
def test_blocks_of_any_length_come_out_as_the_same_samples_in_whole_frames(lengths: list[int]) -> None:
    samples = np.arange(sum(lengths), dtype=np.int16)
    framer = Framer()
    frames = []
    for block in np.split(samples, np.cumsum(lengths)):
        frames += list(framer.push(block))
    frames += list(framer.flush())
    assert all(frame.shape == (FRAME_SAMPLES,) and frame.dtype == np.int16 for frame in frames)
    heard = np.concatenate([np.empty(0, np.int16), *frames])
    assert np.array_equal(heard[: samples.size], samples)
    assert not heard[samples.size :].any()
    assert heard.size - samples.size < FRAME_SAMPLES


def test_a_flushed_framer_holds_nothing_of_the_last_stream() -> None:
    framer = Framer()
    list(framer.push(np.ones(10, dtype=np.int16)))
    assert len(list(framer.flush())) == 1
    assert list(framer.flush()) == []
