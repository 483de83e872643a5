"""docs/architecture.md names every module, under its room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "app" / "driftline"
ROOMS = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Rooms\n")[2].partition("\n## ")[0]
SECTIONS = dict(re.findall(r"^#### `([\w/]+)`\n(.+?)(?=^#|\Z)", ROOMS, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("room", [room for room in SECTIONS if (PACKAGE / room).is_dir()])
def test_every_module_is_named_under_its_room(room: str) -> None:
    names = {file.stem for file in (PACKAGE / room).glob("*.py")} - {"__init__"}
    if room == "cli":  # the section says how commands are named
        names = {file.stem for file in (PACKAGE / room / "command").glob("*.py")} ^ names - {"__init__"}
    named = {word.rpartition("/")[2] for word in re.findall(r"`([\w/]+)`", SECTIONS[room])}
    assert names <= named, f"not in docs/architecture.md: {sorted(names - named)}"


def test_every_room_has_its_section() -> None:
    rooms = {file.parent.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")}
    within = {str(room) for room in rooms if len(room.parts) == (2 if room.parts[:1] == ("core",) else 1)}
    assert within <= SECTIONS.keys()


def test_nothing_is_named_that_is_not_there() -> None:
    for room, section in SECTIONS.items():
        folder = PACKAGE / room
        for name in re.findall(r"`((?:core|codec|engine|operate|web|kafka|cli)/[\w/]+)`", section):
            assert list(PACKAGE.glob(f"{name}*")), f"{room}: {name}"
        assert folder.exists() or (folder.with_suffix(".py")).exists(), room
