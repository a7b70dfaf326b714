from __future__ import annotations

import math

from serving.modelserver.version_records import Failure, VersionRecords
from serving.modelserver.version_status import State, VersionStatus

BROKEN = VersionStatus(3, State.END, "no graph", 3)


def records(state: State, failure: Failure | None = None) -> VersionRecords:
    made = VersionRecords()
    made.set(3, state)
    made.of(3).seen, made.of(3).failure = (("saved_model.pb", 1, 1),), failure
    return made


def test_what_is_said_is_said_of_the_newest_first() -> None:
    made = VersionRecords()
    for version in (2, 10, 9):
        made.set(version, State.AVAILABLE)
    made.of(4)  # looked at, and nothing is said of it
    assert [status.version for status in made.statuses()] == [10, 9, 2]
    assert made.numbers() == {2, 4, 9, 10}


def test_of_a_version_that_vanished_it_is_said_that_it_was_served_and_not_that_it_waited() -> None:
    for state, said in ((State.END, [State.END]), (State.START, []), (State.LOADING, [])):
        made = records(state, Failure(None, 1, math.inf, BROKEN))
        made.forget(3)
        assert [status.state for status in made.statuses()] == said
        assert made.failures() == []
        assert made.of(3).seen is None


def test_who_waits_no_longer_is_said_to_have_failed_if_it_has() -> None:
    made = records(State.LOADING, Failure(None, 1, 100.0, BROKEN))
    made.leave([3])
    assert made.statuses() == [BROKEN]
    assert made.failures() == []
    made = records(State.START)
    made.leave([3])
    assert made.statuses() == []


def test_who_does_not_wait_stays_as_it_is() -> None:
    failure = Failure(None, 1, math.inf, BROKEN)
    made = records(State.AVAILABLE, failure)
    made.leave([3])
    assert [status.state for status in made.statuses()] == [State.AVAILABLE]
    assert made.failures() == [failure]


def test_what_was_said_before_goes_on_being_said() -> None:
    made = records(State.LOADING)
    made.remember([BROKEN])
    assert made.statuses() == [BROKEN]
    assert made.of(3).seen is None
