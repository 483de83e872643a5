"""What every broker that we start has in common.

A node is a child process (or a child of a guard, see `guard`) that holds the reading end of a pipe whose
writing end is ours: when we die, even by SIGKILL, the kernel closes the pipe and the child goes. Stopping is
by the process that was started, never by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import IO, Self

from driftline.core.error import BrokerError

HOST = "127.0.0.1"
# Below the range from which systems take ports for outgoing connections: a client that reconnects to a
# stopped broker's port inside that range can be given the same port as its own, and then it talks to itself.
PORTS = range(15_000, 30_000)
POLL_S = 0.02
STILL_TIMEOUT_S = 5.0


class Node(ABC):
    """A running broker; `with` and `async with` stop it at the end.

    Attributes:
        kind: `embedded` or `kafka`.
        bootstrap: `host:port` for clients.
    """

    kind: str
    bootstrap: str

    @abstractmethod
    def stop(self) -> None:
        """End the broker and remove what it kept, unless the user gave the place. May be called again."""

    @abstractmethod
    def alive(self) -> bool:
        """Whether the broker's process runs."""

    @abstractmethod
    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make topics (name: number of partitions) with the broker's defaults, those that are missing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


def start_module(module: str, arguments: Sequence[str], stderr: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start `python -m module` with pipes for its input and output, out of reach of the terminal's signals.

    A Ctrl-C goes to every process of the terminal's foreground group; a broker that obeyed it would be gone
    before the worker that is stopping has committed its last slice.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def read_line(process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, object]:
    """Read one JSON line that a child prints.

    Raises:
        BrokerError: if the child ends, prints something else, or is silent for `timeout_s`.
    """
    stream = process.stdout
    if stream is None:
        raise BrokerError("the broker's process has no output pipe; start it through driftline.devbroker")
    line = b""
    deadline = time.monotonic() + timeout_s
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise BrokerError(
                f"the broker's process printed nothing for {timeout_s:g} s; check the machine's load and try again"
            )
        part = os.read(stream.fileno(), 65_536)
        if not part:
            raise BrokerError(f"the broker's process exited at once with status {process.wait()}; see its output above")
        line += part
    try:
        answer = json.loads(line)
    except json.JSONDecodeError as error:
        raise BrokerError(f"the broker's process printed {line[:200]!r}; start it again") from error
    if not isinstance(answer, dict):
        raise BrokerError(f"the broker's process printed {line[:200]!r}; start it again")
    return answer


def stop_process(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """End a child: SIGTERM, and SIGKILL after `timeout_s`; close its pipes and reap it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until the condition holds.

    Returns:
        Whether it held within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def hold_still(pid: int) -> None:
    """SIGSTOP a process, and return when each of its threads stands still, where the system shows it (Linux): the
    signal takes effect some time after it was sent."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: _stands_still(pid), STILL_TIMEOUT_S)


def _stands_still(pid: int) -> bool:
    """Whether all threads of a process are stopped, or the system does not show it."""
    try:
        states = [task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    except FileNotFoundError:
        return False  # a thread ended in the meantime
    return all(state == "T" for state in states)


def port_is_free(port: int) -> bool:
    """Whether nothing listens on 127.0.0.1:port; one in TIME_WAIT is free, as it is for a server."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nothing listens on now. Another process may still take it first: be ready to try again."""
    random = SystemRandom()
    for _ in range(1_000):
        port = random.choice(PORTS)
        if port_is_free(port):
            return port
    raise BrokerError(f"no free port between {PORTS.start} and {PORTS.stop}; free one, or give --port")
