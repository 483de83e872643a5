"""Digests, model cards and reports in a real browser: for weak eyes, on small screens, in a light and a dark theme."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftline.backtest import card_page, plot
from driftline.backtest import page as report_page
from driftline.operate import digest_page
from tests.backtest.test_measure import pairs, tallied
from tests.backtest.test_report import reported
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


CONTRAST_MIN = 3.0  # of a line with its ground, WCAG 1.4.11
CONTRASTS = """
[...document.querySelectorAll('.plot')].flatMap(plot => {
  const lightness = color => color.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255)
    .map(part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [.2126, .7152, .0722][at], 0);
  const ground = getComputedStyle(plot.querySelector('.main-svg')).backgroundColor, under = lightness(ground);
  return [...plot.querySelectorAll('path.js-line, .errorbar path, .gtitle, .xtick text')].map(part => {
    const style = getComputedStyle(part), over = lightness(part.tagName === 'path' ? style.stroke : style.fill);
    return (Math.max(over, under) + .05) / (Math.min(over, under) + .05);
  });
})
"""
WIDE = """
[...document.querySelectorAll('.plot')].every(one => one.querySelector('.main-svg').clientWidth === one.clientWidth
  && one.clientWidth > one.parentElement.clientWidth - 40)
"""


async def test_reports_are_read_by_everyone_in_the_dark_too(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report_page.render(reported(*[tallied(pairs(900, skill=skill)) for skill in (0.3, 1.0)])))
    grounds = set()
    async with browser() as page:
        for width, dark in ((1366, False), (1366, True), (390, True)):
            await page.show(file.as_uri(), width, 900, dark=dark)
            await page.until(f"innerWidth === {width} && document.querySelectorAll('path.js-line').length > 4")
            assert min(await page.value(CONTRASTS)) >= CONTRAST_MIN, f"{width} {dark}"
            assert not await faults(page), f"{width} {dark}"
            assert await page.value("document.documentElement.scrollWidth") <= width
            assert await page.value(WIDE), f"{width}: plots are as wide as their cards"
            grounds.add(await page.value("getComputedStyle(document.querySelector('.main-svg')).backgroundColor"))
        assert grounds == {"rgb(255, 255, 255)", "rgb(22, 27, 34)"}
        await page.resize(1366, 900)  # the theme changes while it is open
        await page.until(
            "getComputedStyle(document.querySelector('.main-svg')).backgroundColor === 'rgb(255, 255, 255)'"
        )
        assert not page.complaints


@pytest.mark.parametrize("shade", plot.COLOURS)
def test_each_colour_stands_out_in_both_themes(shade: str) -> None:
    assert _contrast(shade, plot.GROUND) >= CONTRAST_MIN
    assert _contrast(plot.DARK[shade], plot.DARK[plot.GROUND]) >= CONTRAST_MIN


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(_lightness, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _lightness(shade: str) -> float:
    digits = shade[1:] if len(shade) == 7 else "".join(digit * 2 for digit in shade[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))
