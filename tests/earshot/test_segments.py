from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.audio import SEGMENT_BYTES, SEGMENT_SAMPLES
from earshot.segments import InvalidSegment, Segment

PCM = np.arange(SEGMENT_SAMPLES, dtype=np.int16)


def segment(**changes: object) -> Segment:
    values: dict[str, object] = {
        "segment_id": "3f2b",
        "device_id": "kitchen",
        "sequence": 7,
        "start": datetime(2026, 11, 23, 18, 4, 5, 120_000, UTC),
        "trigger": "vad",
        "level_dbfs": -23.25,
        "pcm": PCM,
    }
    return Segment(**{**values, **changes})  # type: ignore[arg-type]


@given(
    device_id=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    sequence=st.integers(0, 2**53),
    start=st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(9998, 12, 31)),
    trigger=st.sampled_from(["vad", "energy", "vad+energy", "continued"]),
    level=st.integers(-12_000, 0),
)
def test_a_segment_is_the_same_after_the_topic(
    device_id: str, sequence: int, start: datetime, trigger: str, level: int
) -> None:
    before = segment(device_id=device_id, sequence=sequence, start=start, trigger=trigger, level_dbfs=level / 100)
    after = Segment.from_record(*before.to_record())
    np.testing.assert_array_equal(after.pcm, before.pcm)
    for name in ("segment_id", "device_id", "sequence", "start", "trigger", "level_dbfs"):
        assert getattr(after, name) == getattr(before, name)


def test_a_record_is_raw_little_endian_pcm_with_cloudevents_headers() -> None:
    record = segment().to_record()
    headers = dict(record.headers)
    assert record.key == b"kitchen"
    assert len(record.value) == SEGMENT_BYTES
    assert record.value[2:4] == b"\x01\x00"
    assert headers["ce_id"] == b"3f2b"
    assert headers["ce_time"] == b"2026-11-23T18:04:05.120000Z"
    assert {"ce_specversion", "ce_source", "ce_type", "content-type"} <= headers.keys()


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        ("ce_specversion", b"0.3", "ce_specversion"),
        ("ce_type", b"door.opened", "ce_type"),
        ("content-type", b"audio/L16; rate=8000; channels=1; endian=little", "rate=8000"),
        ("ce_id", None, "ce_id is missing"),
        ("ce_time", b"yesterday", "no valid value"),
        ("ce_time", b"2026-11-23T18:04:05", "without a time zone"),
        ("earshot_sequence", b"first", "no valid value"),
        ("earshot_trigger", b"hunch", "hunch"),
        ("earshot_level_dbfs", b"loud", "no valid value"),
        ("earshot_level_dbfs", b"nan", "not a finite number"),
        ("earshot_level_dbfs", b"-inf", "not a finite number"),
        ("ce_time", b"0001-01-01T00:00:00+23:00", "a time that no clock shows"),
        ("ce_time", b"9999-01-01T00:00:00Z", "a time that no clock shows"),
        ("ce_time", b"1970-01-01T00:00:00+14:00", "a time that no clock shows"),
        ("ce_id", b"3f2b\x1b[2J", "control character"),
        ("ce_id", b"x" * 257, "longer than 256"),
        ("ce_source", b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_header_that_breaks_the_contract_is_named(header: str, value: bytes | None, message: str) -> None:
    record = segment().to_record()
    headers = [(name, old) for name, old in record.headers if name != header]
    if value is not None:
        headers.append((header, value))
    with pytest.raises(InvalidSegment, match=message):
        Segment.from_record(record.key, record.value, headers)


@pytest.mark.parametrize("value", [None, b"", b"\0" * (SEGMENT_BYTES - 2), b"\0" * (SEGMENT_BYTES + 2)])
def test_a_value_of_another_length_is_refused_with_its_length(value: bytes | None) -> None:
    record = segment().to_record()
    with pytest.raises(InvalidSegment, match=f"value has {len(value or b'')} bytes"):
        Segment.from_record(record.key, value, record.headers)


def test_a_record_without_a_key_is_refused() -> None:
    record = segment().to_record()
    with pytest.raises(InvalidSegment, match="key is missing"):
        Segment.from_record(None, record.value, record.headers)


def test_a_key_too_long_for_a_label_is_refused() -> None:
    record = segment().to_record()
    with pytest.raises(InvalidSegment, match="longer than 256"):
        Segment.from_record(b"x" * 257, record.value, record.headers)


@pytest.mark.parametrize("key", [b"\x1b[2Jkitchen", b"a\nb", b"\x7f"])
def test_a_key_that_would_do_something_to_a_terminal_is_refused(key: bytes) -> None:
    record = segment().to_record()
    with pytest.raises(InvalidSegment, match="control character"):
        Segment.from_record(key, record.value, record.headers)
