"""The runbook as a page: every alert's link has its anchor, and nothing in the text is markup of the page."""

from __future__ import annotations

import re
from typing import get_args

from driftline.core.pipeline import AlertKind
from driftline.web.runbook import render, runbook_page
from driftline.web.site import FILES


def test_every_kind_of_alert_has_its_anchor() -> None:
    anchors = re.findall(r'<h2 id="([^"]+)"', runbook_page())
    assert set(anchors) >= {kind.replace("_", "-") for kind in get_args(AlertKind)}


def test_all_links_lead_somewhere() -> None:
    page = runbook_page()
    ids = set(re.findall(r' id="([^"]+)"', page))
    for address in re.findall(r'href="([^"]+)"', page):
        assert address.startswith("https://") or address in FILES or (address[0] == "#" and address[1:] in ids), address


def test_markup_in_the_text_is_escaped() -> None:
    page = render("# A\n\n## <img src=x onerror=alert(1)>\n\n<script>x</script> [x](javascript:alert(1)) `<b>`\n")
    assert "<script>" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert 'href="javascript' not in page
