"""Backtests that end before their time: stopped by a person, by a full disk, by a file that cannot be read."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from driftline.backtest import report
from driftline.backtest import run as running
from driftline.backtest.candidate import Result
from driftline.backtest.run import Options
from driftline.backtest.score import open_part
from driftline.cli.backtest import candidates
from driftline.core.error import InputFileError
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource
from tests.backtest import history
from tests.cli.command import COMMAND, environment
from tests.cli.test_backtest import fails

pytestmark = pytest.mark.slow


@contextmanager
def started(folder: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A backtest of two candidates as a process of its own, which has ended afterwards."""
    process = subprocess.Popen(
        [*COMMAND, "backtest", "-p", str(history.pipeline_file(folder)), *flags, "--grid", "metric_window=1,2"],
        env=environment(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until_scored(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait until some scores are written."""
    while process.poll() is None and not any(
        part.stat().st_size for part in folder.glob(".driftline-*/*.csv") if part.exists()
    ):
        with_bound(process)


def test_stopped_half_way_gives_a_partial_result(tmp_path: Path) -> None:
    path = history.table(tmp_path, 6_000)
    specs, _ = candidates([history.pipeline_file(tmp_path)], [], [])
    asked: list[int] = []

    def moved(done: int, total: int) -> None:
        if 0 < done < total and not asked:
            asked.append(done)
            signal.raise_signal(signal.SIGINT)

    outcome = running.run(specs, TableSource(path, Fields("y")), Options(), processes=1, scores=None, moved=moved)
    assert outcome.stopped
    (result,) = outcome.results.values()
    assert 0 < result.tally.total.sums[0, 0] < 6_000
    made = report.build(specs, outcome, report.Asked(["data.csv"], "time", "", "none", 0, None, None))
    assert made.partial
    assert "Stopped before the end" in made.warnings[0]


def test_interrupted_command_writes_what_it_has_and_ends_with_130(tmp_path: Path) -> None:
    path = history.table(tmp_path, 60_000)
    flags = ("--input", str(path), "--label", "y", "-o", "out", "--scores", "scores.csv", "--processes", "2")
    with started(tmp_path, *flags) as process:
        until_scored(process, tmp_path)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "PARTIAL" in out
    made = orjson.loads((tmp_path / "out" / "report.json").read_bytes())
    assert made["partial"]
    assert 0 < made["candidates"][0]["counted"] < 60_000
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("processes", ["1", "2"])
def test_terminated_command_leaves_nothing_behind(tmp_path: Path, processes: str) -> None:
    path = history.table(tmp_path, 60_000)
    flags = ("--input", str(path), "--label", "y", "-o", "new/out", "--scores", "s.csv", "--processes", processes)
    with started(tmp_path, *flags) as process:
        until_scored(process, tmp_path)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data.csv", "first.yaml"]


def test_interrupted_while_processes_start_gives_a_partial_report(tmp_path: Path) -> None:
    path = history.table(tmp_path, 20_000)
    with started(tmp_path, "--input", str(path), "--label", "y", "-o", "out", "--processes", "2") as process:
        while process.poll() is None and spawned(process.pid) < 2:
            with_bound(process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the children, too
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "PARTIAL" in out
    made = orjson.loads((tmp_path / "out" / "report.json").read_bytes())
    assert [0 < one["counts"]["scored"] < 20_000 for one in made["candidates"]] == [True, True]


def spawned(pid: int) -> int:
    """How many processes of a backtest have begun to start."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    return sum(b"spawn_main" in command for command in commands)


class Noted:
    """A part that asks for the stop while it runs, and notes that it ran."""

    def __init__(self, ran: list[int], number: int) -> None:
        self.ran, self.number = ran, number

    def run(self, watch: running.PartProgress) -> tuple[list[Result], running.Facts]:
        self.ran.append(self.number)
        signal.raise_signal(signal.SIGINT)
        return [], running.Facts()


def test_after_a_stop_no_further_part_begins() -> None:
    ran: list[int] = []
    outcome = running.run_parts(
        [],
        lambda folder: [Noted(ran, number) for number in range(4)],
        processes=1,
        scores=None,
        moved=lambda done, total: None,
    )
    assert outcome.stopped
    assert ran == [0]


def with_bound(process: subprocess.Popen[str]) -> None:
    """Wait a little for the process to end, which it should not."""
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return


def test_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    path = history.table(tmp_path)
    out = tmp_path / "out"
    flags = ["-p", str(history.pipeline_file(tmp_path)), "--input", str(path), "--label", "y", "-o", str(out)]
    done = subprocess.run(
        [*COMMAND, "backtest", *flags],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert done.returncode == 2, done.stderr
    assert "report.html could not be written" in done.stderr
    assert not out.exists()  # it was new


@pytest.mark.parametrize("processes", ["1", "2"])
def test_full_disk_for_scores_is_told(tmp_path: Path, processes: str) -> None:
    path = history.table(tmp_path, 4_000)
    (tmp_path / "scores.csv").write_text("kept")
    flags = ["-p", str(history.pipeline_file(tmp_path)), "--input", str(path), "--label", "y", "-o", "out"]
    done = subprocess.run(
        [*COMMAND, "backtest", *flags, "--scores", "scores.csv", "--grid", "seed=1,2", "--processes", processes],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 2, done.stderr
    assert re.search(r"could not be written \(File too large\); free some space", done.stderr)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "scores.csv").read_text() == "kept"
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_full_disk_for_a_part_is_told() -> None:
    part = open_part(Path("/dev/full"))
    part.write("1,2,3")
    with pytest.raises(InputFileError, match="free some space"):
        part.close()
    with pytest.raises(InputFileError, match="nowhere"):
        open_part(Path("/nowhere/0.csv"))


@pytest.mark.parametrize("content", [b"", None, b"x1,x2,x3,y\n1,2,3,1\n1,\xff,3,1\n1,2,3,1\n"])
def test_failed_reading_keeps_an_earlier_scores_file(tmp_path: Path, content: bytes | None) -> None:
    path, scores = tmp_path / "rows.csv", tmp_path / "scores.csv"
    if content is not None:
        path.write_bytes(content)
    scores.write_text("kept")
    flags = ("--input", path, "--label", "y", "-o", tmp_path / "out", "--scores", scores)
    fails("-p", history.pipeline_file(tmp_path), *flags, code=2, says="rows.csv")
    assert scores.read_text() == "kept"
    assert list(tmp_path.glob(".*")) == []
