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
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
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
    """Run a command to its end; its exit code is the caller's to judge. A worker gets a port of its own."""
    if arguments[0] == "worker":
        changes = {"DRIFTLINE_WEB_PORT": str(free_port()), **changes}
    return subprocess.run(
        [sys.executable, "-m", "driftline", *map(str, arguments)],
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


class Command:
    """A command in a process of its own; `with` stops it at the end, whatever state it is in.

    Args:
        folder: where its output goes, and where it runs.
        arguments: of `driftline`, or with `module` of that module.
        changes: to its environment.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str | Path | float,
        module: str = "driftline",
        name: str = "command",
        changes: Mapping[str, str] | None = None,
    ) -> None:
        place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
        self.log_file, self._out_file = place / "log", place / "out"
        with self.log_file.open("wb") as log, self._out_file.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                cwd=folder,
                env=environment(DRIFTLINE_DATA_DIR=str(place), **(changes or {})),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"{self.log_file.parent.name} said:\n{self.last_words()}")

    def log(self) -> str:
        """All it has said on stderr so far."""
        return self.log_file.read_text("utf-8", "replace")

    def last_words(self) -> str:
        return self.log()[-LOG_SHOWN:]

    def output(self) -> str:
        """All it has printed so far."""
        return self._out_file.read_text("utf-8", "replace")

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait for a condition while it runs; its end fails the test at once."""

        def holds() -> bool:
            if condition():
                return True
            code = self.process.poll()
            assert code is None, f"it ended with {code} before: {what}\n{self.last_words()}"
            return False

        until(holds, timeout_s, what, self.last_words)

    def until_said(self, text: str, timeout_s: float = START_TIMEOUT_S, times: int = 1) -> None:
        """Wait until its log holds the text so many times."""
        self.until(lambda: self.log().count(text) >= times, timeout_s, f"the log says {text!r} {times} times")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, and wait for its end; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.end(timeout_s)

    def end(self, timeout_s: float) -> int:
        """Wait for its end; returns the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {timeout_s:g} s\n{self.last_words()}") from None

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Worker(Command):
    """`driftline worker`, and what its pages show.

    Args:
        file: the pipeline file.
        flags: more arguments of `driftline worker`.
        changes: to its environment.
    """

    def __init__(
        self,
        file: Path,
        bootstrap: str,
        folder: Path,
        *flags: str,
        name: str = "worker",
        changes: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        super().__init__(
            folder,
            *("worker", "-p", str(file), "--bootstrap", bootstrap, "--web-port", str(self.port), *flags),
            name=name,
            changes=changes,
        )

    def page(self, path: str) -> tuple[int, str] | None:
        """Status and content of a page; None while it does not answer."""
        return fetch(self.port, path)

    @property
    def shards(self) -> dict[int, bool]:
        """Its shards, and whether each is recovered, as /health/ready has it."""
        page = self.page("/health/ready")
        return {} if page is None else {int(number): bool(ok) for number, ok in orjson.loads(page[1])["shards"].items()}

    def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics, summed over the series that have these labels; 0 without any."""
        page = self.page("/metrics")
        return 0.0 if page is None else sample(page[1], name, **labels)

    def until_read(self, shards: int, timeout_s: float, inputs: int = 3) -> None:
        """Wait until it has read all that its inputs hold, which it knows of each input some time after it is ready."""

        def read() -> bool:
            page = self.page("/metrics")
            lags = [] if page is None else list(series(page[1], "driftline_lag"))
            return len(lags) == shards * inputs and not any(lags)

        self.until(read, timeout_s, f"{shards} shards have read all of {inputs} inputs")

    def until_ready(self, count: int | None = None, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it has `count` shards (any number but none), all recovered."""

        def ready() -> bool:
            shards = self.shards
            enough = bool(shards) if count is None else len(shards) == count
            return enough and all(shards.values())

        self.until(ready, timeout_s, f"the worker is ready with {count or 'some'} shards")


def fetch(port: int, path: str) -> tuple[int, str] | None:
    """Status and content of a page of 127.0.0.1; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (urllib.error.URLError, OSError):
        return None


def sample(page: str, name: str, **labels: str) -> float:
    """A sample of a /metrics page, summed over the series that have these labels."""
    return sum(series(page, name, **labels))


def series(page: str, name: str, **labels: str) -> Iterator[float]:
    """The samples of a /metrics page that have these labels."""
    return (
        float(one.value)
        for family in text_string_to_metric_families(page)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )
