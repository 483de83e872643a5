"""Digests and model cards in a real browser: for weak eyes, on small screens, in a light and a dark theme."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftline.backtest import card_page
from driftline.operate import digest_page
from tests.operate.test_digest import START_MS, card_of, corrected, gathered
from tests.support.axe import faults
from tests.support.browser import CHROMIUM, browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: `apt-get install chromium`, or another package of it"),
]
DAY_MS = 86_400_000
LINES_MAX = 12  # of a cell on a telephone; a column that is a letter wide has more


async def test_digests_and_cards_are_read_by_everyone(tmp_path: Path) -> None:
    chosen, made = corrected()
    digest = digest_page.page_of(gathered(chosen, made, START_MS, START_MS + 5 * DAY_MS), "pipeline.yaml", None)
    pages = {"digest": digest_page.render(digest, "html"), "card": card_page.render(card_of(chosen, made), chosen)}
    async with browser() as page:
        for name, text in pages.items():
            file = tmp_path / f"{name}.html"
            file.write_text(text)
            for width, dark in ((1366, False), (390, True), (390, False)):
                await page.show(file.as_uri(), width, 900, dark=dark)
                await page.until(f"document.readyState === 'complete' && innerWidth === {width}")
                await page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
                assert not await faults(page), f"{name} {width}"
                assert await page.value("document.documentElement.scrollWidth") <= width
                lines = await page.value(
                    "Math.max(0, ...[...document.querySelectorAll('td')].map(one => one.offsetHeight / 24))"
                )
                assert lines <= LINES_MAX, f"{name} {width}"
                assert "\\u000a" not in await page.value("document.body.innerText")
