"""A microphone without a sound card: a PulseAudio server of the test's own, whose null sink is heard by PortAudio.

What is played into the sink is what its monitor, the default source, records, sample for sample at 16 kHz.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

SINK = "earshot"
START_S = 20.0

PULSE_ALSA = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"
"""ALSA's configuration where its default device is the sound server."""
NO_ALSA = "pcm.!default { type hw card 31 }\n"
"""The same where there is no sound card; PortAudio aborts the process where no device is configured at all."""


class PulseError(RuntimeError):
    """The sound server did not start; the message has its log."""


class Pulse:
    """A sound server of its own; a context manager."""

    def __init__(self, folder: Path, rate_hz: int = 16_000, channels: int = 1) -> None:
        self._folder = folder
        self._rate_hz = rate_hz
        self._channels = channels
        self._process: subprocess.Popen[bytes] | None = None
        self._alsa = folder / "asound.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to hear this server, and no other."""
        return {
            "HOME": str(self._folder),
            "XDG_RUNTIME_DIR": str(self._folder),
            "PULSE_SERVER": f"unix:{self._folder / 'pulse.socket'}",
            "ALSA_CONFIG_PATH": str(self._alsa),
        }

    def __enter__(self) -> Self:
        self._alsa.write_text(PULSE_ALSA)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = self._folder / "pulse.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *("pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"),
                    *("--disable-shm=yes", "--log-target=stderr"),
                    f"--load=module-native-protocol-unix socket={self._folder / 'pulse.socket'} auth-anonymous=1",
                    f"--load=module-null-sink sink_name={SINK} format=s16le"
                    f" rate={self._rate_hz} channels={self._channels}",
                ],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until_s = time.monotonic() + START_S
        while self._control("set-default-source", f"{SINK}.monitor") != 0:
            if time.monotonic() > until_s or self._process.poll() is not None:
                self.stop()
                raise PulseError(f"PulseAudio did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server, as where a microphone is unplugged."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=START_S)
            self._process = None

    def play(self, path: Path) -> None:
        """Play a recording to its end."""
        subprocess.run(
            ["paplay", f"--device={SINK}", str(path)],
            env={**os.environ, **self.environment},
            check=True,
            timeout=120,
            capture_output=True,
        )

    def _control(self, *arguments: str) -> int:
        command = ["pactl", *arguments]
        return subprocess.run(
            command, env={**os.environ, **self.environment}, check=False, timeout=START_S, capture_output=True
        ).returncode


@contextmanager
def pulse(rate_hz: int = 16_000, channels: int = 1) -> Iterator[Pulse]:
    """A running server, in a folder with a path short enough for its socket."""
    with tempfile.TemporaryDirectory(prefix="pulse-") as folder, Pulse(Path(folder), rate_hz, channels) as server:
        yield server
