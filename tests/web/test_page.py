"""The page in a real browser, over boards that tests make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from driftline.config import Settings
from driftline.web import site as pages
from driftline.web import stream as streams
from driftline.web.backlog import First
from driftline.web.record import Review, Score, Trip
from driftline.web.site import Site
from tests.support.boards import NOW_MS, alert, note
from tests.support.browser import CHROMIUM, Page, browser
from tests.support.pipelines import pipeline, settings
from tests.web.test_site import TOKEN, StillFeed

HOSTILE = "<img src=x onerror=window.harmed=1><script>window.harmed=1</script>"
EPISODE = "cards-0-loss-e7"

HOLES = """
(() => {
  const cards = [...$('cards').children].filter(one => !one.hidden).map(one => one.getBoundingClientRect());
  const whole = $('cards').getBoundingClientRect(), found = [];
  for (const y of new Set(cards.map(one => one.top + 30)))
    for (let x = whole.left + 20; x < whole.right; x += 40)
      if (!cards.some(one => one.left - 12 <= x && x <= one.right + 12 && one.top - 20 <= y && y <= one.bottom + 20))
        found.push([x, y]);
  return found;
})()
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: `apt-get install chromium`, or another package of it"),
]


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> StillFeed:
    monkeypatch.setattr(streams, "TICK_S", 0.05)
    made = StillFeed(settings("127.0.0.1:1"))
    for minute in range(50):
        at_ms = NOW_MS + minute * 60_000
        made.board.take_entry(0, at_ms, note(watermark_ms=at_ms, window_metrics={"Accuracy": 0.9 - minute / 100}))
    return made


@asynccontextmanager
async def served(feed: StillFeed, at: Settings | None = None) -> AsyncIterator[tuple[str, web.AppRunner]]:
    """The page on a port; what holds predictions is in its pipeline."""
    at = at or settings("127.0.0.1:1")
    holding = pipeline(guard={"range": {"max": 0.9, "action": "hold"}, "hold": {"wait": "1h", "then": "withhold"}})
    site = Site(holding, at, feed)
    app = web.Application()
    site.add_to(app)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", runner
    finally:
        await runner.cleanup()


def text_of(name: str) -> str:
    return f"document.getElementById('{name}').innerText"


async def shown(page: Page, url: str) -> None:
    await page.show(url)
    await page.until("document.getElementById('verdict').dataset.level === 'good'")


async def test_it_goes_on_by_itself_and_says_what_is_wrong(feed: StillFeed) -> None:
    async with served(feed) as (url, runner), browser() as page:
        await shown(page, url)
        assert await page.value(text_of("sentence")) == "All is well."
        assert "Accuracy" in await page.value("document.getElementById('chart').getAttribute('aria-label')")
        assert await page.value("document.querySelectorAll('#chart canvas').length") == 1
        feed.board.take_alert(0, NOW_MS, alert(severity="critical", acknowledged=True, acknowledged_by="ana"))
        await page.until("document.getElementById('verdict').dataset.level === 'bad'")
        assert await page.value(text_of("sentence")) == "The model is worse than it was. Acknowledged by ana."
        assert "Alert (1)" in await page.value(text_of("legend"))
        feed.be_away(NOW_MS - 5_000)
        await page.until(f"{text_of('sentence')}.startsWith('Kafka does not answer')")
        assert "unknown" in await page.value(text_of("figures"))
        await runner.cleanup()
        await page.until(f"{text_of('sentence')}.startsWith('This worker does not answer')")
        assert await page.value("document.body.classList.contains('stale')")
        assert not page.complaints


async def test_a_second_model_is_shown_beside_the_first(feed: StillFeed) -> None:
    second = {"version": "0.60", "served": 12, "failed": 3, "labels": 60, "error": 0.25, "first_error": 1234.5}
    feed.board.take_entry(0, NOW_MS + 10**7, note(guard={"tripped": {}, "second_model": second}))
    async with served(feed) as (url, _), browser() as page:
        await page.show(url)
        await page.until("document.getElementById('serving').textContent.includes('served 12 times')")
        row = await page.value("document.getElementById('serving').textContent")
        assert "mean error 0.25, of the first 1,235 (60 labels); failed 3 times" in row
        assert "Second model" in await page.value("document.getElementById('serving-head').textContent")
        assert not page.complaints


async def test_what_topics_say_is_text(feed: StillFeed) -> None:
    there = feed.board
    hostile: dict[str, Any] = {
        "sentence": HOSTILE,
        "kind": HOSTILE,
        "audience": [HOSTILE],
        "acknowledged_by": HOSTILE,
        "runbook": "javascript:window.harmed=1",
        "evidence": {HOSTILE: HOSTILE},
    }
    there.take_alert(0, NOW_MS, alert(HOSTILE, **hostile))
    there.take_review(
        Review(output_id=HOSTILE, event_id=HOSTILE, state="held", prediction=HOSTILE, features={HOSTILE: HOSTILE})
    )
    there.take_score(Score(HOSTILE, HOSTILE, NOW_MS, HOSTILE, prediction=HOSTILE))
    there.take_members([(HOSTILE, HOSTILE, (0,))], NOW_MS)
    async with served(feed) as (url, _), browser() as page:
        await page.show(url)
        await page.until(f"{text_of('episodes-list')}.includes('<img')")
        await page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
        for name in ("sentence", "reviews-list", "scores-list", "workers-list", "happened-list"):
            assert "<img" in await page.value(text_of(name)), name
        assert await page.value("document.images.length") == 0
        assert await page.value("[...document.links].every(one => one.protocol.startsWith('http'))")
        assert await page.value("window.harmed === undefined")
        assert not page.complaints, "its policy had nothing to refuse"


@pytest.mark.parametrize("width", [390, 683, 1366, 2560])  # 683: of 1366 pixels, at a zoom of 200%
async def test_nothing_is_wider_than_the_screen(feed: StillFeed, width: int) -> None:
    feed.board.take_alert(0, NOW_MS, alert("cards-0-" + "x" * 300, sentence="y" * 500))
    feed.board.take_score(Score("e-0-7-0", "z" * 200, NOW_MS, "served", prediction="n" * 60))
    feed.board.take_members([("worker-" + "w" * 80, "10.0.0.1", (0,))], NOW_MS)
    async with served(feed) as (url, _), browser() as page:
        await page.show(url, width, 900, dark=width == 390)
        await page.until(f"{text_of('episodes-list')}.includes('yyy')")
        assert await page.value("document.documentElement.scrollWidth") <= width
        cut = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
        assert not await page.value(f"{cut}.map(one => one.ariaLabel + (one.scrollWidth - one.clientWidth))")


@pytest.mark.parametrize("width", [1366, 1800, 2560])
@pytest.mark.parametrize("seen", [True, False])
async def test_cards_leave_no_hole_in_their_rows(feed: StillFeed, width: int, seen: bool) -> None:
    async with served(feed) as (url, _), browser() as page:
        await shown(page, url)
        await page.resize(width, 900)
        await page.value(f"Object.assign(state.about, {{priced: {str(seen).lower()}, holds: {str(not seen).lower()}}})")
        for role in ("everyone", "operations", "data_science", "domain_expert"):
            await page.value(f"play('{role}')")
            empty = await page.value(HOLES)
            assert not empty, f"{role}: {empty}"


async def test_a_metric_stays_where_no_label_came_for_long(feed: StillFeed) -> None:
    for number in range(1, 300):
        feed.board.take_entry(0, NOW_MS + number, note(watermark_ms=NOW_MS + number, pending=number))
    async with served(feed) as (url, _), browser() as page:
        await shown(page, url)
        assert await page.until("charts.metric.plot !== null && $('metric-name').value") == "Accuracy"


async def test_by_keyboard(feed: StillFeed) -> None:
    async with served(feed) as (url, _), browser() as page:
        await shown(page, url)
        await page.value("document.querySelector('#roles input').focus()")
        await page.press("ArrowRight")
        assert await page.until("state.role") == "operations"
        assert await page.value("document.getElementById('cards').children[0].id") == "workers"
        await page.value("document.getElementById('chart').focus()")
        await page.press("ArrowLeft")
        first = await page.until(text_of("readout"))
        await page.press("ArrowLeft")
        assert await page.value(text_of("readout")) != first
        names = await page.value(
            "[...document.querySelectorAll('button, input, select, [tabindex=\"0\"]')]"
            ".filter(one => !(one.labels?.length || one.getAttribute('aria-label') || one.innerText.trim()))"
            ".map(one => one.outerHTML)"
        )
        assert not names, "each has a name for a screen reader"


async def test_with_the_token_an_alert_is_acknowledged(feed: StillFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def carry_out(document: Any, *_: Any) -> tuple[bool, str]:
        asked.append(document)
        return True, "done"

    monkeypatch.setattr(pages, "carry_out", carry_out)
    feed.board.take_alert(0, NOW_MS, alert(EPISODE))
    async with (
        served(feed, settings("127.0.0.1:1").model_copy(update={"web_token": TOKEN})) as (url, _),
        browser() as page,
    ):
        await page.show(url)
        await page.until("document.querySelector('#episodes-list button') !== null")
        press = "document.querySelector('#episodes-list button').click()"
        await page.value(press)
        await page.until(f"{text_of('episodes-list')}.includes('give the token')")
        assert not asked
        await page.value(
            f"document.getElementById('by').value = 'ana'; document.getElementById('token').value = '{TOKEN}';"
            "document.querySelector('#token-form button').click()"
        )
        await page.value(press)
        await page.until(f"{text_of('episodes-list')}.includes('done')")
        assert asked == [{"command": "acknowledge", "episode": EPISODE, "by": "ana"}]


async def test_without_a_token_nothing_can_be_done(feed: StillFeed) -> None:
    feed.board.take_alert(0, NOW_MS, alert(EPISODE))
    feed.board.take_review(Review(output_id="e-0-1-5", event_id=1, state="held"))
    async with served(feed) as (url, _), browser() as page:
        await page.show(url)
        await page.until(f"{text_of('reviews-list')}.includes('the model predicts')")
        assert await page.value("document.querySelectorAll('#episodes button, #reviews button').length") == 0
        assert await page.value("document.getElementById('token-form').hidden")


async def test_what_a_held_prediction_is_beyond(feed: StillFeed) -> None:
    """Only a limit of values is compared with the prediction; surprise is none."""
    unfamiliar = Trip("unfamiliar", "hold", 0.99, 0.0097, "words")
    for number, tripped in enumerate((unfamiliar, Trip("range", "hold", 90, 12), Trip("share", "hold", 0.1, 0.2))):
        held = Review(output_id=f"e-0-{number}", event_id=number, state="held", prediction=102.5, tripped=[tripped])
        feed.board.take_review(held)
    async with served(feed) as (url, _), browser() as page:
        await page.show(url)
        await page.until("document.querySelectorAll('#reviews-list > li').length === 3")
        told = await page.value(text_of("reviews-list"))
    assert "0: the model predicts 102.5; words is unlike anything the model has learned from." in told
    assert "1: the model predicts 102.5, 12 above the limit of 90." in told
    assert "2: the model predicts 102.5." in told


async def test_tab_goes_from_the_top_down(feed: StillFeed) -> None:
    feed.board.take_alert(0, NOW_MS, alert(EPISODE))
    async with served(feed) as (url, _), browser() as page:
        await page.show(url)
        await page.until("document.querySelector('#steps a') !== null && charts.metric.plot !== null")
        met = []
        for _ in range(7):
            await page.press("Tab")
            met.append(await page.value("(one => one.id || one.name || one.textContent)(document.activeElement)"))
        first, rest = met[:3], met[3:]
        assert first == ["Skip to the pipeline", "role", "More in the runbook"]
        assert rest == ["metric-name", "metric-span", "range", "chart"]


async def test_a_screen_reader_hears_the_sentence_once(feed: StillFeed) -> None:
    """Numbers in it go on counting, and are not read out each second."""
    async with served(feed) as (url, _), browser() as page:
        await shown(page, url)
        await page.until("document.getElementById('said').textContent === 'Well. All is well.'")
        await page.value(
            "window.heard = 0; new MutationObserver(() => heard += 1).observe($('said'), {childList: true})"
        )
        for behind in (20_000, 30_000, 40_000):
            feed.board.take_ends({0: {"events": behind}})
            await page.until(f"{text_of('sentence')}.includes('{behind - 5:,}')")
        assert await page.value("heard") == 1
        assert await page.value("document.getElementById('said').getAttribute('aria-live')") == "polite"
        assert await page.value("document.querySelectorAll('h1[aria-live], h1 [aria-live]').length") == 0


async def test_every_table_has_headers(feed: StillFeed) -> None:
    feed.board.take_score(Score("e-0-7-0", "p7", NOW_MS, "served"))
    async with served(feed) as (url, _), browser() as page:
        await shown(page, url)
        await page.until("document.querySelectorAll('#scores-list tr').length === 1")
        bare = await page.value(
            "[...document.querySelectorAll('table')].filter(one => one.querySelector('td'))"
            ".filter(one => !one.querySelector('thead th[scope=col]') || !one.querySelector('tbody th[scope=row]')"
            " || !one.caption).map(one => one.outerHTML)"
        )
        assert not bare


async def test_a_silent_shard_is_named_and_so_is_what_no_one_can_date(feed: StillFeed) -> None:
    there = feed.board
    there.take_members([("worker-a", "10.0.0.1", (0,))], NOW_MS)
    there.take_entry(0, NOW_MS, note(version="2.0", watermark_ms=NOW_MS + 10**8, drifts={"loss drift rise": 1}))
    async with served(feed) as (url, _), browser() as page:
        await shown(page, url)
        await page.until(f"/last wrote \\d+ (s|min) ago/.test({text_of('workers-list')})")
        assert "at work" in await page.value(text_of("workers-list"))
        assert "between" in await page.value("document.querySelector('#versions td.when').innerText")
        await page.value("document.getElementById('chart').focus()")
        await page.press("ArrowRight")
        await page.until(f"{text_of('readout')}.includes('Drift: Loss rose (between ')")
        there.read_ms = NOW_MS
        there.take_ends({0: {"events": 9}})
        there.take_firsts({0: {"events": First(5, 5, NOW_MS)}})
        there.read_ms = NOW_MS + 7_000
        await page.until(f"{text_of('sentence')}.startsWith('Shard 0 has written nothing for 7 s')")
        assert await page.value("state.verdict.level") == "warning"
        assert "silent" in await page.value(text_of("workers-list"))
        assert await page.value("document.querySelectorAll('#shards-list .silent').length") == 1
        assert not page.complaints


async def test_each_kind_of_mark_has_a_flag_where_several_lie_close(feed: StillFeed) -> None:
    """Three alerts of one moment left no room for the drift and the change of the model that they are about."""
    there = feed.board
    for number in range(3):
        there.take_alert(0, NOW_MS, alert(f"cards-0-{number}", opened_ms=NOW_MS + number * 1_000))
    changed = note(version="2.0", watermark_ms=NOW_MS + 3_000_000, drifts={"loss drift rise": 1})
    there.take_entry(0, NOW_MS, changed)
    there.take_alert(0, NOW_MS, alert("cards-0-changed", kind="model_change", opened_ms=NOW_MS + 3_000_000))
    async with served(feed) as (url, _), browser() as page:
        await page.show(url)
        await page.until("charts.metric.plot !== null && time.marks.length === 6")
        flags = await page.value(
            "flagsOf(charts.metric.placed(charts.metric.plot).map(one => ({...one, at: 100})), 15, 1)"
            ".map(one => [one.mark.kind, one.line])"
        )
        assert flags == [["alert", 0], ["model", 1], ["drift", 2]]
