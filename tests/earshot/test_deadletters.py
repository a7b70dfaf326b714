from __future__ import annotations

from typing import Any

import pytest

from earshot.deadletters import LONGEST_TEXT, dead_letter, lessened
from earshot.segments import InvalidSegment, Record, Segment
from tests.earshot.test_segments import segment


def failure() -> InvalidSegment:
    """What a consumer catches: an exception that was raised, with a cause."""
    headers = [header for header in segment().to_record().headers if header[0] != "earshot_sequence"]
    with pytest.raises(InvalidSegment) as caught:
        Segment.from_record(b"kitchen", segment().to_record().value, [*headers, ("earshot_sequence", b"first")])
    return caught.value


def letter(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], error: BaseException | None = None
) -> Record:
    return dead_letter(
        key,
        value,
        headers,
        error=error or failure(),
        stage="decode",
        topic="segments",
        partition=3,
        offset=2**40,
    )


def test_the_record_is_as_it_was_so_that_it_can_be_sent_again() -> None:
    before = segment().to_record()
    after = letter(*before)
    assert (after.key, after.value) == (before.key, before.value)
    assert after.headers[: len(before.headers)] == before.headers
    assert Segment.from_record(*after).segment_id == "3f2b"


def test_the_headers_say_what_failed_where_and_of_which_record() -> None:
    headers = dict(letter(b"kitchen", b"short", []).headers)
    stacktrace = headers.pop("__streams.errors.stacktrace").decode()
    assert headers == {
        "__streams.errors.exception": b"earshot.segments.InvalidSegment",
        "__streams.errors.message": str(failure()).encode(),
        "__streams.errors.topic": b"segments",
        "__streams.errors.partition": b"3",
        "__streams.errors.offset": b"1099511627776",
        "earshot_stage": b"decode",
    }
    assert "ValueError: invalid literal for int()" in stacktrace
    assert "in from_record" in stacktrace


def test_a_header_that_repeats_or_is_not_text_is_kept() -> None:
    headers = [("trace", b"\xff\x00"), ("trace", b"2")]
    assert letter(b"kitchen", b"short", headers).headers[:2] == headers


@pytest.mark.parametrize(("key", "value"), [(None, None), (b"", b""), (None, b"short")])
def test_a_record_without_key_or_value_has_a_letter_too(key: bytes | None, value: bytes | None) -> None:
    after = letter(key, value, [])
    assert (after.key, after.value) == (key or b"", value or b"")


def test_a_message_that_is_not_utf8_has_a_letter_too() -> None:
    headers = dict(letter(None, None, [], ValueError("device \udcff")).headers)
    assert headers["__streams.errors.message"].decode().startswith("device ")


def test_a_message_that_quotes_a_huge_record_is_cut() -> None:
    huge = "x" * 600_000
    headers = dict(letter(None, None, [], ValueError(huge)).headers)
    assert headers["__streams.errors.message"] == huge[:LONGEST_TEXT].encode()
    assert len(headers["__streams.errors.stacktrace"]) == LONGEST_TEXT


def test_a_letter_too_large_for_its_topic_loses_its_value_first_and_the_failure_never() -> None:
    # A record may bring headers of the same names.
    whole = letter(b"kitchen", b"short", [("trace", b"\xff" * 10), ("__streams.errors.exception", b"an older one")])
    told = whole.headers[2:]

    without_value = lessened(whole)
    assert without_value == (b"kitchen", b"", [*whole.headers, ("earshot_value_dropped", b"5")])
    least = lessened(without_value)
    size = len(b"kitchen") + len("trace") + 10 + len("__streams.errors.exception") + len("an older one")
    headers = [*told, ("earshot_value_dropped", b"5"), ("earshot_headers_dropped", str(size).encode())]
    assert least == (b"", b"", headers)
    assert lessened(least) is None


def test_a_header_without_a_value_weighs_what_its_name_does() -> None:
    nothing: Any = None  # Kafka lets a header have none
    least = lessened(letter(b"", b"", [("trace", nothing)]))
    assert least is not None
    assert least.headers[-1] == ("earshot_headers_dropped", b"5")
