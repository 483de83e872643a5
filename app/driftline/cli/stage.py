"""What every demo runs on: a broker, a worker in a process of its own, and readers of topics, as users have them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from driftline.config import Settings, load_settings, read_pipeline
from driftline.core.error import BrokerError
from driftline.core.pipeline import Pipeline
from driftline.devbroker import embedded, kafka
from driftline.kafka.client import client_options, subscribe
from driftline.kafka.topic import create

START_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
LOOK_EVERY_S = 0.25
LAST_ALERTS_S = 1.0  # the last alerts may still be on their way to the subscriber
ALERTS_SHOWN = 6
_BAR = 40


class Stage(NamedTuple):
    """A pipeline and the broker it runs on.

    Args:
        file: of the pipeline, in a folder that goes with the stage.
    """

    pipeline: Pipeline
    bootstrap: str
    file: Path


class Running(NamedTuple):
    """A worker at work."""

    pipeline: Pipeline
    settings: Settings
    process: subprocess.Popen[bytes]

    async def page(self, path: str) -> str | None:
        """A page of the worker, or None while it does not answer 200."""
        return await asyncio.to_thread(_get, self.settings, path)

    async def records(self, topic: str) -> AsyncGenerator[dict[str, Any], None]:
        """What is published on a topic, from its beginning, without end."""
        committed = self.pipeline.delivery == "exactly_once"
        arrivals = subscribe(client_options(self.settings), topic, from_beginning=True, committed=committed)
        async with aclosing(arrivals):
            async for batch in arrivals:
                for arrival in batch:
                    yield orjson.loads(arrival.value or b"{}")

    @asynccontextmanager
    async def alerts(self, take: Callable[[dict[str, Any]], None]) -> AsyncIterator[asyncio.Task[None]]:
        """Subscribe to the alerts topic, as any program would: `take` gets each episode as it opens."""

        async def listen() -> None:
            async for alert in self.records(self.pipeline.topics.alerts):
                if alert.get("state") == "opened":  # not that it lasts, or is over
                    take(alert)

        listening = asyncio.create_task(listen())
        try:
            yield listening
        finally:
            listening.cancel()
            await asyncio.wait({listening})


def delivery(kind: str) -> str:
    """What a kind of broker can promise."""
    return "exactly_once" if kind == "kafka" else "at_least_once"


@contextmanager
def stage(kind: str, name: str, text: str, console: Console) -> Iterator[Stage]:
    """A broker and a pipeline file, gone at the end; SIGTERM ends it in order, as Ctrl-C does.

    Args:
        name, text: of the pipeline.
    """
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="driftline-demo-"))) / f"{name}.yaml"
        file.write_text(text)
        console.print(f"starting the {kind} broker and a worker ...")
        node = stack.enter_context(kafka.start() if kind == "kafka" else embedded.start())
        yield Stage(read_pipeline(text), node.bootstrap, file)


@asynccontextmanager
async def running(stage: Stage, partitions: int) -> AsyncIterator[Running]:
    """A worker that is ready, on topics made for it.

    Raises:
        BrokerError: it did not start.
    """
    settings = load_settings(flags={"bootstrap": stage.bootstrap, "web_port": _free_port()})
    await create(stage.pipeline, settings, partitions=partitions, retention_ms=-1)
    log = stage.file.with_suffix(".log")
    process = _start(stage.file, settings, log)
    try:
        await _until_ready(process, settings, log)
        yield Running(stage.pipeline, settings, process)
    finally:
        await asyncio.to_thread(_stop, process)


def bar(share: float) -> str:
    """How much is done, as text."""
    full = int(share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {share:4.0%}"


def picture(numbers: Table, alerts: Sequence[dict[str, Any]]) -> Group:
    """Numbers, and the latest alerts below them."""
    lines = [Text(f"ALERT  {alert['sentence']}", style="bold red") for alert in alerts[-ALERTS_SHOWN:]]
    return Group(numbers, *(lines or [Text("no alert so far", style="dim")]))


# -- the worker


def _start(file: Path, settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "driftline", "worker", "-p", str(file), "--bootstrap", settings.bootstrap]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    with log.open("wb") as out:
        return subprocess.Popen(
            [*command, "--web-port", str(settings.web_port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is ours; the worker is then stopped in good order
            env={**os.environ, "PYTHONPATH": path, "DRIFTLINE_DATA_DIR": str(file.parent)},
        )


async def _until_ready(process: subprocess.Popen[bytes], settings: Settings, log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise BrokerError(f"the worker failed to start:\n{_last_words(log)}")
        if await asyncio.to_thread(_get, settings, "/health/ready") is not None:
            return
        await asyncio.sleep(LOOK_EVERY_S)
    raise BrokerError(f"the worker was not ready within {START_TIMEOUT_S:.0f} s:\n{_last_words(log)}")


def _last_words(log: Path) -> str:
    return log.read_text()[-2000:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _get(settings: Settings, path: str) -> str | None:
    url = f"http://{settings.web_host}:{settings.web_port}{path}"
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5) as answer:
        content: bytes = answer.read()
        return content.decode()
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
