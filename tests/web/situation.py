"""Situations that people meet on the page, made on the embedded broker: what is sent, and what then happens.

    python -m tests.web.situation drift                      the page to look at, until Ctrl-C
    python -m tests.web.situation guard --pictures FOLDER    its pictures: each role, four widths, light and dark

Each begins with some thousand card payments as fast as they are scored, and goes on with a few a second.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from driftline.cli import card_fraud
from driftline.cli.card_fraud import STEP_MS
from driftline.codec.decode import MISSING
from driftline.config import Settings, load_settings, read_pipeline
from driftline.core.pipeline import Pipeline
from driftline.devbroker import embedded
from driftline.devbroker.embedded import EmbeddedNode
from driftline.ingest.feed import RowSender
from driftline.ingest.table import Sample
from driftline.kafka.topic import create
from tests.support.browser import Page, browser
from tests.support.command import Worker

ROWS = 8_700  # at once: soon after the change, whose alerts would end with it
CHANGE = 7_500
GOING_ON = 100_000
GOING_ON_S = 20.0  # rows a second
RATE = 2_000.0
LABEL_DELAY_MS = 900_000
WITHIN_S = 90.0
GUARD = """
guard:
  range: {max: 0.95, action: hold}
  hold: {wait: 6h, then: withhold}
"""
WIDTHS = (390, 768, 1366, 2560)
ROLES = ("everyone", "operations", "data_science", "domain_expert")


@dataclass(frozen=True)
class Situation:
    """What is sent.

    Args:
        react: what the pipeline does about more errors.
        change: index of the first payment under the new pattern of fraud.
        spoil: what becomes of a payment from then on.
        more: sections of the pipeline file.
        level: of the page's first sentence, once it has come to that.
        text: in that sentence.
        shards: models.
        rows: at once.
    """

    level: str
    text: str
    change: int = 1_000_000
    spoil: Callable[[Sample], Sample] = lambda sample: sample
    more: str = ""
    react: str = "alert"
    shards: int = 2
    rows: int = ROWS


def _unlabelled(sample: Sample) -> Sample:
    return sample._replace(label=MISSING)


def _in_cents(sample: Sample) -> Sample:
    return sample._replace(event={**sample.event, "amount": sample.event["amount"] * 100})


SITUATIONS = {
    "healthy": Situation("good", "All is well"),
    "drift": Situation("bad", "wrong more often", change=CHANGE, react="reset", shards=1),
    "labels": Situation("bad", "has received no label", spoil=_unlabelled, rows=14_000),
    "guard": Situation("bad", "The guard objected", spoil=_in_cents, more=GUARD),
    "worker": Situation("bad", "This worker does not answer"),
    "kafka": Situation("bad", "Kafka does not answer"),
}


class Scene:
    """A situation at work.

    Attributes:
        url: of the page.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, node: EmbeddedNode, worker: Worker) -> None:
        self.url = f"http://127.0.0.1:{worker.port}/"
        self.worker = worker
        self._pipeline, self._settings, self._node = pipeline, settings, node

    async def send(self, samples: Iterable[Sample], rate: float) -> None:
        await RowSender(self._pipeline, self._settings, label_delay_ms=LABEL_DELAY_MS, rate=rate).run(samples)

    async def happen(self, name: str) -> None:
        """What only happens once the page is open."""
        if name == "worker":
            await asyncio.to_thread(self.worker.kill)
        elif name == "kafka":
            await asyncio.to_thread(self._node.stop)


def _samples(situation: Situation) -> Iterator[Sample]:
    start_ms = int(time.time() * 1000) - (situation.rows + GOING_ON // 10) * STEP_MS
    for index, sample in enumerate(card_fraud.payments(situation.rows + GOING_ON, situation.change, start_ms)):
        yield situation.spoil(sample) if index >= CHANGE else sample


@asynccontextmanager
async def made(name: str, folder: Path, **environ: str) -> AsyncIterator[Scene]:
    """A situation, with its payments scored, that goes on until the end."""
    situation = SITUATIONS[name]
    text = card_fraud.PIPELINE.format(name="card-fraud", delivery="at_least_once").replace("wait: 7d", "wait: 45m")
    text = text.replace("ADWIN(delta=0.002)", f"{{detector: ADWIN(delta=0.002), reaction: {situation.react}}}")
    text += f"shards: {situation.shards}\n" + situation.more
    file = folder / "card-fraud.yaml"
    file.write_text(text)
    pipeline = read_pipeline(text)
    with embedded.start() as node:
        settings = load_settings({"HOME": "/nonexistent"}, {"bootstrap": node.bootstrap})
        await create(pipeline, settings, partitions=situation.shards, retention_ms=-1)
        with Worker(file, node.bootstrap, folder, changes=environ) as worker:
            await asyncio.to_thread(worker.until_ready, situation.shards)
            scene, samples = Scene(pipeline, settings, node, worker), _samples(situation)
            await scene.send(islice(samples, situation.rows), RATE)
            await _until_scored(worker, situation.rows)
            going_on = asyncio.create_task(scene.send(samples, GOING_ON_S))
            try:
                yield scene
            finally:
                going_on.cancel()
                await asyncio.wait({going_on})


async def _until_scored(worker: Worker, count: int) -> None:
    def scored() -> bool:
        return worker.metric("driftline_scores_total") >= count

    await asyncio.to_thread(worker.until, scored, WITHIN_S, "all payments are scored")


async def until_shown(page: Page, name: str) -> None:
    """Wait until the page says what it should."""
    situation = SITUATIONS[name]
    await page.until(
        f"document.getElementById('verdict').dataset.level === '{situation.level}'"
        f" && document.getElementById('sentence').innerText.includes('{situation.text}')",
        WITHIN_S,
    )


async def _pictures(scene: Scene, name: str, folder: Path) -> None:
    async with browser() as page:
        await page.show(scene.url)
        await page.until("state.numbers && state.verdict.level !== 'waiting'", WITHIN_S)
        await scene.happen(name)
        await until_shown(page, name)
        for role in ROLES:
            await page.value(f"document.querySelector('#roles input[value={role}]').click()")
            for width in WIDTHS:
                for dark in (False, True):
                    await page.resize(width, 900, dark=dark)
                    await asyncio.sleep(0.5)
                    await page.picture(folder / f"{name}-{role}-{width}-{'dark' if dark else 'light'}.png")


async def _play(name: str, pictures: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="driftline-situation-") as folder:
        async with made(name, Path(folder)) as scene:
            if pictures is not None:
                pictures.mkdir(parents=True, exist_ok=True)
                await _pictures(scene, name, pictures)
                return
            print(f"{scene.url} (Ctrl-C ends it; in a minute: {name})")
            await asyncio.sleep(60)
            await scene.happen(name)
            await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=SITUATIONS)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_play(arguments.name, arguments.pictures))
