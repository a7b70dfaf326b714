"""The sound devices that can record, and finding the one that a setting means."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from earshot.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = get_log(__name__)

_CARD = re.compile(r" \(hw:\d+,\d+\)$")
"""ALSA's numbers at the end of a name, which may be others when a device is plugged in again."""


class MicrophoneError(RuntimeError):
    """There is no microphone to hear with; the message says what to do."""


class NoMicrophone(MicrophoneError):
    """No device records, or none fits the setting, or several do."""


class MicrophoneLost(MicrophoneError):
    """The microphone vanished and did not come back."""


@dataclass(frozen=True, slots=True)
class Device:
    """A sound device that can record."""

    index: int
    """PortAudio's number, which changes as devices come and go."""
    name: str
    native_rate_hz: int
    """Hertz."""
    channels: int
    """Most channels that it records."""
    default: bool
    """Whether it is the one that is used where none is named."""

    def __str__(self) -> str:
        mark = ", default" if self.default else ""
        return f"{self.index}: {self.name} ({self.native_rate_hz} Hz, {self.channels} channels{mark})"


def list_devices() -> list[Device]:
    """Every device that can record, as PortAudio sees them now."""
    with port_audio() as audio:
        return recording_devices(audio)


@contextmanager
def port_audio() -> Iterator[Any]:
    """A fresh PyAudio instance; devices that were plugged in since an earlier one are in it."""
    import pyaudio

    with quiet_stderr():
        audio = pyaudio.PyAudio()
    try:
        yield audio
    finally:
        with quiet_stderr():
            audio.terminate()


def recording_devices(audio: Any) -> list[Device]:
    """The devices of a PyAudio instance that can record."""
    try:
        default = audio.get_default_input_device_info()["index"]
    except OSError:
        default = None
    infos = (audio.get_device_info_by_index(index) for index in range(audio.get_device_count()))
    return [
        Device(
            index=info["index"],
            name=info["name"],
            native_rate_hz=round(info["defaultSampleRate"]),
            channels=info["maxInputChannels"],
            default=info["index"] == default,
        )
        for info in infos
        if info["maxInputChannels"] > 0
    ]


def find_device(devices: Sequence[Device], wanted: str) -> Device:
    """The device that `wanted` means: an index, part of a name in any case, or empty for the default.

    Raises NoMicrophone where none or several fit, with the devices that there are.
    """
    if not devices:
        raise NoMicrophone(
            "no microphone: this machine has no device that records; plug one in, or check that the sound server runs "
            "and that this user may use it (on Debian: group audio), then see `earshot devices`"
        )
    if not wanted:
        return next((device for device in devices if device.default), devices[0])
    if wanted.isdecimal():
        fitting = [device for device in devices if device.index == int(wanted)]
    else:
        fitting = [device for device in devices if wanted.lower() in device.name.lower()]
        fitting = [device for device in fitting if device.name.lower() == wanted.lower()] or fitting
    if len(fitting) == 1:
        return fitting[0]
    problem = f"{len(fitting)} microphones fit {wanted!r}" if fitting else f"no microphone fits {wanted!r}"
    listing = "\n".join(f"  {device}" for device in fitting or devices)
    raise NoMicrophone(f"{problem}; name one of these by its index or a longer part of its name:\n{listing}")


def found_again_by(device: Device, devices: Sequence[Device]) -> str:
    """What `find_device` finds `device` by when others have come or gone: its name, or its index where two fit that."""
    for name in (_CARD.sub("", device.name), device.name):
        with suppress(NoMicrophone):
            if find_device(devices, name) == device:
                return name
    return str(device.index)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep what ALSA, JACK and PortAudio print straight to file descriptor 2 off the terminal; debug logs have it.

    They probe every device that might exist and complain of each one that does not.
    """
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            said.seek(0)
            for line in said.read().decode(errors="replace").splitlines():
                log.debug("sound library", said=line)
