from __future__ import annotations

import os
from dataclasses import replace

import pytest

from earshot.logs import configure_logs
from producers.devices import Device, NoMicrophone, find_device, found_again_by, quiet_stderr

BUILT_IN = Device(0, "HDA Intel PCH: ALC257 Analog (hw:0,0)", 48_000, 2, default=False)
USB = Device(3, "USB PnP Sound Device: Audio (hw:1,0)", 44_100, 1, default=False)
SECOND_USB = Device(4, "USB PnP Sound Device: Audio (hw:2,0)", 44_100, 1, default=False)
DEFAULT = Device(7, "default", 44_100, 32, default=True)
DEVICES = [BUILT_IN, USB, SECOND_USB, DEFAULT]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("", DEFAULT), ("intel", BUILT_IN), ("hw:2,0", SECOND_USB), ("3", USB), ("DEFAULT", DEFAULT)],
)
def test_a_device_is_found_by_index_by_part_of_its_name_or_as_the_default(wanted: str, found: Device) -> None:
    assert find_device(DEVICES, wanted) == found


def test_a_whole_name_wins_over_the_same_text_in_another_name() -> None:
    other = Device(8, "default (digital)", 48_000, 2, default=False)
    assert find_device([*DEVICES, other], "default") == DEFAULT


def test_without_a_default_the_first_device_is_taken() -> None:
    assert find_device([BUILT_IN, USB], "") == BUILT_IN


def test_a_name_that_fits_several_lists_them_and_no_other() -> None:
    with pytest.raises(NoMicrophone, match="2 microphones fit 'usb'") as caught:
        find_device(DEVICES, "usb")
    assert str(USB) in str(caught.value)
    assert str(SECOND_USB) in str(caught.value)
    assert str(BUILT_IN) not in str(caught.value)


@pytest.mark.parametrize("wanted", ["bluetooth", "12"])
def test_a_name_or_index_that_fits_none_lists_all(wanted: str) -> None:
    with pytest.raises(NoMicrophone, match=f"no microphone fits '{wanted}'") as caught:
        find_device(DEVICES, wanted)
    assert all(str(device) in str(caught.value) for device in DEVICES)


def test_without_any_device_the_message_says_what_to_do() -> None:
    with pytest.raises(NoMicrophone, match="plug one in"):
        find_device([], "usb")


def test_what_sound_libraries_print_is_kept_off_stderr_while_they_are_asked(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    with quiet_stderr():
        os.write(2, b"ALSA lib: unable to open slave\n")
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "heard again\n"


def test_a_microphone_is_found_again_by_its_name_whatever_number_it_has_then() -> None:
    usb = Device(3, "USB Mic: Audio (hw:1,0)", 48_000, 1, default=True)
    again = replace(usb, index=1, name="USB Mic: Audio (hw:2,0)", default=False)
    others = [
        Device(0, "Built-in: Analog (hw:0,0)", 44_100, 2, default=False),
        Device(1, "Loopback", 48_000, 2, default=True),
    ]
    name = found_again_by(usb, [*others, usb])
    assert find_device([*others, again], name) == again
    with pytest.raises(NoMicrophone):
        find_device(others, name)
    twin = replace(usb, index=4, name="USB Mic: Audio (hw:3,0)")
    assert found_again_by(usb, [usb, twin]) == usb.name
    assert found_again_by(usb, [usb, replace(usb, index=4)]) == "3"
    assert found_again_by(DEFAULT, [Device(5, "sysdefault", 48_000, 2, default=False), *DEVICES]) == "default"
