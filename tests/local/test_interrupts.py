from __future__ import annotations

import signal

import pytest

from local.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_one_ends_what_starts_and_the_next_does_not_cut_the_ending_short(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)
        assert interrupts.came


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_deferred_it_is_noted_and_raises_nothing(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        interrupts.defer()
        assert not interrupts.came
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert interrupts.came


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
