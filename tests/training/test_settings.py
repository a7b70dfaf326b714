"""Which network the settings ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from serving.network import Architecture
from training.settings import RetrainSettings

RANGE = (-1.0, 1.0)
TAUGHT = Architecture(("mixed7",), 1, RANGE, (1, 3))
PAIR = replace(TAUGHT, inceptions=2)


@pytest.mark.parametrize(
    ("settings", "taught", "asked"),
    [
        ({}, None, Architecture(("mixed2", "mixed3"), 3, RANGE)),
        ({"method": "finetune"}, None, Architecture(("mixed7",), 2, RANGE, (1, 2))),
        ({}, TAUGHT, TAUGHT),
        ({"method": "finetune"}, TAUGHT, TAUGHT),
        ({"taps": "mixed1,mixed4", "bands": 2}, TAUGHT, Architecture(("mixed1", "mixed4"), 2, RANGE, (1, 3))),
        ({}, PAIR, PAIR),
        ({"taps": "mixed1", "bands": 2}, PAIR, Architecture(("mixed1",), 2, RANGE, (1, 3), 2)),
        ({"shrink": "2,2"}, None, Architecture(("mixed2", "mixed3"), 3, RANGE, (2, 2))),
    ],
)
def test_weights_that_were_taught_bring_their_network_and_what_is_named_goes_before(
    settings: dict[str, object], taught: Architecture | None, asked: Architecture
) -> None:
    assert RetrainSettings.model_validate(settings).architecture(RANGE, taught) == asked


def test_weights_to_calibrate_by_are_separated_by_commas_and_may_be_joined() -> None:
    settings = RetrainSettings.model_validate({"calibrate_by": "before.npz,other.npz+third.npz,"})
    assert settings.calibrating == ("before.npz", "other.npz+third.npz")
    assert RetrainSettings.model_validate({}).calibrating == ()


def test_a_seed_is_one_that_every_library_takes() -> None:
    RetrainSettings.model_validate({"seed": 2**32 - 1})
    with pytest.raises(ValidationError, match="less than 4294967296"):
        RetrainSettings.model_validate({"seed": 2**32})
