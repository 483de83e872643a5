"""The page in a real browser over workers at work: drift, trips of the guard, a worker that is killed, Kafka away."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from driftline.cli import card_fraud
from driftline.config import load_settings, read_pipeline
from driftline.devbroker.kafka import KafkaNode
from driftline.ingest.feed import RowSender
from driftline.kafka.topic import create
from tests.support.axe import faults
from tests.support.browser import CHROMIUM, Page, browser
from tests.support.command import Worker
from tests.web.situation import ROLES, SITUATIONS, made, until_shown

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: `apt-get install chromium`, or another package of it"),
]


async def text_of(page: Page, name: str) -> str:
    return str(await page.value(f"document.getElementById('{name}').innerText"))


async def role(page: Page, name: str) -> None:
    await page.value(f"document.querySelector('#roles input[value={name}]').click()")
    await page.until(f"state.role === '{name}'")


async def check(page: Page) -> None:
    """Nothing serious for axe in any view, light or dark; nothing wider than the screen."""
    for width, dark in ((1366, False), (390, True)):
        await page.resize(width, 900, dark=dark)
        for name in ROLES:
            await role(page, name)
            assert not await faults(page), f"{name} {width}"
            assert await page.value("document.documentElement.scrollWidth") <= width
    assert not page.complaints


@pytest.mark.parametrize("name", SITUATIONS)
async def test_what_is_shown_of_a_situation(name: str, tmp_path: Path) -> None:
    async with made(name, tmp_path) as scene, browser() as page:
        await page.show(scene.url)
        await page.until("state.numbers && state.verdict.level !== 'waiting'")
        await scene.happen(name)
        await until_shown(page, name)
        expected = {
            "healthy": {"figures": "Events a second", "shards-list": "this worker", "kpi-figures": "known"},
            "drift": {
                "legend": "Drift",
                "done": "New model on shard 0: an untrained model, after drift (errors rose)",
                "steps": "Ask a domain expert",
                "versions": "an untrained model, after drift",
                "happened-list": "Generation 1 of the model follows 0",
            },
            "labels": {"steps": "Check that the system that produces the labels is running"},
            "guard": {"legend": "Guard", "done": "The guard acted on", "reviews-list": "the model predicts"},
            "worker": {"steps": "Open the page of another worker", "workers-list": "unknown now"},
            "kafka": {"steps": "Bring Kafka or the network back", "figures": "unknown"},
        }
        for part, text in expected[name].items():
            await page.until(f"document.getElementById('{part}').innerText.includes({text!r})")
        if name == "drift":
            assert "Model change (1)" in await text_of(page, "legend")
        if name == "guard":
            assert "A prediction of" in await text_of(page, "happened-list")
        await check(page)


HEARD = """
window.heard = [];
new MutationObserver(() => heard.push([Date.now(), state.verdict.level, $('sentence').innerText]))
  .observe($('verdict'), {childList: true, subtree: true, characterData: true, attributes: true});
"""


async def test_a_worker_that_is_killed(kafka: KafkaNode, tmp_path: Path) -> None:
    """The page of one worker says that the other is silent, then gone, which shard waits, and that it took it over."""
    text = card_fraud.PIPELINE.format(name="page-killed", delivery="exactly_once") + "shards: 2\n"
    file = tmp_path / "page-killed.yaml"
    file.write_text(text)
    pipeline, settings = read_pipeline(text), load_settings({"HOME": "/nonexistent"}, {"bootstrap": kafka.bootstrap})
    await create(pipeline, settings, partitions=2, retention_ms=-1)
    sender = RowSender(pipeline, settings, label_delay_ms=1_000, rate=20.0)
    with Worker(file, kafka.bootstrap, tmp_path) as ours, Worker(file, kafka.bootstrap, tmp_path) as other:
        await asyncio.to_thread(ours.until_ready, 1)
        await asyncio.to_thread(other.until_ready, 1)
        sending = asyncio.create_task(
            sender.run(islice(card_fraud.payments(10_000, 10_000, 1_790_000_000_000), 10_000))
        )
        try:
            async with browser() as page:
                await page.show(f"http://127.0.0.1:{ours.port}/")
                await page.until("document.getElementById('workers-count').innerText.includes('2 workers')")
                await page.until(
                    "document.getElementById('sentence').innerText.length > 5 && state.verdict.level === 'good'"
                )
                assert "last wrote" in await text_of(page, "workers-list")
                await page.value(HEARD)
                await asyncio.to_thread(other.kill)
                killed_ms = await page.value("Date.now()")
                await page.until("heard.some(([at, level, text]) => text.includes('has written nothing for'))")
                await page.until("document.getElementById('happened-list').innerText.includes('A worker left')")
                assert "gone" in await text_of(page, "workers-list")
                heard = await page.value("heard")
                silent_ms = next(at for at, level, text in heard if level == "warning" and "written nothing" in text)
                assert silent_ms - killed_ms < 10_000, "before Kafka could notice"
                await page.until("state.verdict.level === 'good'")
                assert "shards 0, 1" in await text_of(page, "workers-list")
                await check(page)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
