"""Child processes: real ones, watched through /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from local.processes import Child, run_to_end
from tests.processes import ROOT

PATIENCE_S = 30.0

OWNER = """
import sys, time
from pathlib import Path
from local.processes import Child
child = Child("sleeper", ["sleep", "600"], None, Path(sys.argv[1]), background=sys.argv[2] == "background")
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""

STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = subprocess.Popen(["sleep", "600"])
print(helper.pid, flush=True)
time.sleep(600)
"""

INTERRUPTED = """
import sys, threading
from pathlib import Path
from local.processes import Child

begin = threading.Thread.start

def begin_and_be_interrupted(thread):
    threading.Thread.start = begin
    begin(thread)
    raise KeyboardInterrupt

threading.Thread.start = begin_and_be_interrupted
child = Child("sleeper", ["sleep", "600"], None, Path(sys.argv[1]))
try:
    child.start()
except KeyboardInterrupt:
    print(child.pid, flush=True)
"""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int) -> bool:
    """Whether a process that is not our own child ends in time."""
    give_up_at = time.monotonic() + PATIENCE_S
    while runs(pid):
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True


def printed(child: Child) -> str:
    """The first line of a child's log, once it is there."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (lines := child.tail()):
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    return lines[0]


def shell(script: str, log: Path, **environment: str) -> Child:
    return Child("script", ["sh", "-c", script], {**os.environ, **environment}, log)


def test_everything_a_child_says_is_in_its_log_which_begins_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for word in ("first", "second"):
        child = shell('echo "$WORD"; echo failed >&2; exit 3', log, WORD=word)
        child.start()
        give_up_at = time.monotonic() + PATIENCE_S
        while child.poll() is None:
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
        assert child.poll() == 3
        assert child.tail() == [word, "failed"]
        assert child.tail(1) == ["failed"]


def test_a_child_that_is_stopped_can_tidy_up(tmp_path: Path) -> None:
    child = shell("trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.05; done", tmp_path / "log")
    with child:
        assert printed(child) == "ready"
        assert child.stop() == 0
    assert child.tail()[-1] == "tidied"


def test_a_child_that_ignores_sigterm_is_killed_with_all_it_started(tmp_path: Path) -> None:
    with Child("stubborn", [sys.executable, "-c", STUBBORN], None, tmp_path / "log") as child:
        helper = int(printed(child))
        assert child.stop(grace_s=0.2) == -signal.SIGKILL
        assert child.stop() == -signal.SIGKILL  # harmless if repeated
    assert ends(helper)


def test_a_child_ends_with_an_owner_that_is_killed_and_a_background_one_does_not(tmp_path: Path) -> None:
    for kind in ("foreground", "background"):
        with subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path / kind), kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as owner:
            assert owner.stdout is not None
            pid = int(owner.stdout.readline())
            assert runs(pid)
            owner.kill()
            owner.wait()
        if kind == "foreground":
            assert ends(pid)
        else:
            assert runs(pid)
            os.kill(pid, signal.SIGKILL)


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    child = Child("sleeper", ["sleep", "600"], None, tmp_path / "log")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    with pytest.raises(subprocess.TimeoutExpired):
        child._process.wait(0.3)  # type: ignore[union-attr]
    assert child.stop() == -signal.SIGTERM


def test_ctrl_c_in_the_terminal_reaches_the_owner_alone(tmp_path: Path) -> None:
    with Child("sleeper", ["sleep", "600"], None, tmp_path / "log") as child:
        assert child.pid is not None
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_a_command_that_cannot_be_run_ends_and_its_log_says_why(tmp_path: Path) -> None:
    with Child("ghost", ["/no/such/program"], None, tmp_path / "log") as child:
        assert printed(child) == "cannot run /no/such/program: No such file or directory"


def test_a_run_to_its_end_gives_status_and_output() -> None:
    assert run_to_end("script", ["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, ["out", "err"])


def test_a_run_has_no_file_that_an_interrupt_could_leave_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_to_end("list", ["ls", "-A", tmp_path]) == (0, [])


def test_whatever_interrupts_a_run_ends_its_process(tmp_path: Path) -> None:
    """Ctrl-C at many a moment of a run's life: from before the fork to the wait."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupted_run(after_ms: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, after_ms / 1000)
        run_to_end("sleeper", [sys.executable, "-c", "import time; time.sleep(600)", mark])

    mark = str(tmp_path)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for after_ms in range(1, 30, 2):
            with pytest.raises(KeyboardInterrupt):
                interrupted_run(after_ms)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark in command_line(path)] == []


def command_line(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


def test_ctrl_c_while_the_first_child_is_started_lets_the_process_end(tmp_path: Path) -> None:
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "log")]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert ended.stdout == "None\n"
    assert not (tmp_path / "log").exists(), "a child was started that nobody would have stopped"
