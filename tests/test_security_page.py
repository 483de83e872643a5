"""docs/security.md names every topic: who reads and writes it, and the worst that its writers can do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from driftline.kafka.topic_rule import OUTPUTS, Kind

PAGE = (Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8")


def rows(title: str) -> dict[str, list[str]]:
    """The table of a section: the cells of each row, by its first one."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_worst_that_a_writer_of_each_topic_can_do_is_said(kind: str) -> None:
    assert kind in words(" ".join(rows("The worst that a writer of each topic can do")))


@pytest.mark.parametrize("kind", [*OUTPUTS, "journal", "snapshots"])
def test_the_worker_may_write_what_it_writes(kind: str) -> None:
    assert kind in words(rows("ACLs")["worker"][1])
