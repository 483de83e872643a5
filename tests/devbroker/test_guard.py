"""A guard takes its program along, whichever way the end comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from driftline.devbroker.node import read_line, start_module, stop_process, wait_for

# Says that it is ready only once its handlers are set: a signal before would find Python's own.
DEAF = (
    "import signal, sys, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path(sys.argv[1]).touch(); signal.pause(); signal.pause()"
)


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


@pytest.fixture
def guards() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        stop_process(process, 5.0)


def guarded(guards: list[subprocess.Popen[bytes]], *command: str) -> tuple[subprocess.Popen[bytes], int]:
    """A guard and the process id of its program."""
    guard = start_module("driftline.devbroker.guard", command)
    guards.append(guard)
    pid = read_line(guard, 20.0)["pid"]
    assert isinstance(pid, int)
    return guard, pid


def test_end_of_input_ends_the_program_and_removes_the_folder(
    guards: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "file").touch()
    guard, pid = guarded(guards, "--remove", str(folder), "--", "sleep", "600")
    assert runs(pid)
    assert guard.stdin is not None
    guard.stdin.close()
    assert guard.wait(10) == 128 + signal.SIGTERM
    assert not runs(pid)
    assert not folder.exists()


def test_sigterm_ends_the_program_and_leaves_the_folder(guards: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Whoever sends it is there, and may want to start again on the same data."""
    guard, pid = guarded(guards, "--remove", str(tmp_path), "--", "sleep", "600")
    guard.terminate()
    guard.wait(10)
    assert not runs(pid)
    assert tmp_path.exists()


def test_a_parent_that_goes_while_it_stops_the_program_leaves_no_folder(
    guards: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    folder, ready = tmp_path / "data", tmp_path / "ready"
    folder.mkdir()
    guard, _ = guarded(guards, "--remove", str(folder), "--grace", "0.5", "--", sys.executable, "-c", DEAF, str(ready))
    assert wait_for(ready.exists, 10)
    guard.terminate()
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait(10)
    assert not folder.exists()


def test_a_program_that_ignores_sigterm_is_killed(guards: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    guard, pid = guarded(guards, "--grace", "0.2", "--", sys.executable, "-c", DEAF, str(ready))
    assert wait_for(ready.exists, 10)
    guard.terminate()
    assert guard.wait(10) == 128 + signal.SIGKILL
    assert not runs(pid)


def test_a_stopped_program_is_woken_to_end(guards: list[subprocess.Popen[bytes]]) -> None:
    guard, pid = guarded(guards, "--", "sleep", "600")
    os.kill(pid, signal.SIGSTOP)
    guard.terminate()
    assert guard.wait(10) == 128 + signal.SIGTERM


def test_the_guard_ends_with_its_program_and_its_status(guards: list[subprocess.Popen[bytes]]) -> None:
    guard, _ = guarded(guards, "--", sys.executable, "-c", "raise SystemExit(7)")
    assert guard.wait(10) == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
def test_a_killed_guard_takes_its_program_along(guards: list[subprocess.Popen[bytes]]) -> None:
    guard, pid = guarded(guards, "--", "sleep", "600")
    guard.kill()
    assert wait_for(lambda: not runs(pid), 10)
