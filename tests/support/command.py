"""Driftline's own commands as processes of their own: started, watched from outside, and stopped by their pid.

Nothing here looks inside: a worker is known by its exit code, its log, its pages and what it writes to Kafka. Waiting
is always for a condition, with a bound, and says what it waited for and what the process said meanwhile.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02
LOG_SHOWN = 4_000


def environment(**changes: str) -> dict[str, str]:
    """The environment of a command: ours without any setting of Driftline, plus the changes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}


def driftline(*arguments: str | Path, timeout_s: float = 120.0, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its exit code is the caller's to judge."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *map(str, arguments)],
        cwd=ROOT,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def succeed(*arguments: str | Path, timeout_s: float = 120.0) -> str:
    """Run a command that must end with 0; returns what it printed."""
    done = driftline(*arguments, timeout_s=timeout_s)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def until(condition: Callable[[], bool], timeout_s: float, what: str, told: Callable[[], str] = str) -> None:
    """Wait for a condition.

    Args:
        what: what is waited for, for the error.
        told: more for the error, asked when it is raised.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}\n{told()}")
        time.sleep(POLL_S)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Worker:
    """A worker in a process of its own; `with` stops it at the end, whatever state it is in.

    Args:
        file: the pipeline file.
        folder: where its log and data go.
        flags: more arguments of `driftline worker`.
        command: in place of `driftline worker -p FILE ...`: the module and its arguments.
        changes: to its environment.
    """

    def __init__(
        self,
        file: Path,
        bootstrap: str,
        folder: Path,
        *flags: str,
        name: str = "worker",
        command: Sequence[str] | None = None,
        changes: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.log_file = folder / f"{name}-{self.port}.log"
        arguments = command or [
            *("app.cli", "worker", "-p", str(file), "--bootstrap", bootstrap, "--web-port", str(self.port)),
            *flags,
        ]
        with self.log_file.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env=environment(
                    DRIFTLINE_DATA_DIR=str(folder), DRIFTLINE_WEB_PORT=str(self.port), **(changes or {})
                ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None and hasattr(error, "add_note"):
            error.add_note(f"{self.log_file.name} said:\n{self.log()[-LOG_SHOWN:]}")

    # -- what it shows

    def log(self) -> str:
        """All it has said so far."""
        return self.log_file.read_text("utf-8", "replace")

    def page(self, path: str) -> tuple[int, str] | None:
        """Status and content of a page; None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return None

    @property
    def shards(self) -> dict[int, bool]:
        """Its shards, and whether each is recovered, as /health/ready has it."""
        page = self.page("/health/ready")
        return {} if page is None else {int(number): bool(ok) for number, ok in orjson.loads(page[1])["shards"].items()}

    def is_ready(self) -> bool:
        page = self.page("/health/ready")
        return page is not None and page[0] == 200

    def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics, summed over the series that have these labels; 0 without any."""
        page = self.page("/metrics")
        if page is None:
            return 0.0
        return sum(
            sample.value
            for family in text_string_to_metric_families(page[1])
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    # -- waiting

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait for a condition while the worker runs; its end fails the test at once."""

        def holds() -> bool:
            if condition():
                return True
            code = self.process.poll()
            assert code is None, f"the worker ended with {code} before: {what}\n{self.log()[-LOG_SHOWN:]}"
            return False

        until(holds, timeout_s, what, lambda: self.log()[-LOG_SHOWN:])

    def until_ready(self, count: int | None = None, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it has `count` shards (any number but none), all recovered."""

        def ready() -> bool:
            shards = self.shards
            enough = bool(shards) if count is None else len(shards) == count
            return enough and all(shards.values())

        self.until(ready, timeout_s, f"the worker is ready with {count or 'some'} shards")

    def until_said(self, text: str, timeout_s: float = START_TIMEOUT_S, times: int = 1) -> None:
        """Wait until its log holds the text so many times."""
        self.until(lambda: self.log().count(text) >= times, timeout_s, f"the log says {text!r} {times} times")

    # -- its end

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, and wait for its end; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.end(timeout_s)

    def end(self, timeout_s: float) -> int:
        """Wait for its end; returns the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the worker did not end within {timeout_s:g} s\n{self.log()[-LOG_SHOWN:]}"
            ) from None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
