"""Every kind of alert has its section in the runbook, under the name that its alerts link to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from driftline.core.pipeline import AlertKind

RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"


def test_every_kind_has_its_section() -> None:
    titles = re.findall(r"^## (.+)$", RUNBOOK.read_text(), re.MULTILINE)
    anchors = {title.lower().replace(" ", "-") for title in titles}
    assert anchors == {kind.replace("_", "-") for kind in get_args(AlertKind)}
