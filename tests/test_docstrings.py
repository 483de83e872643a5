"""What comments and docstrings refer to exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "app" / "driftline"
ROOMS = {path.name for path in ROOT.iterdir() if path.is_dir()}
REFERENCE = re.compile(r"`((?:driftline\.)?[a-z_]+(?:\.\w+)+)`")


def _exists(name: str) -> bool:
    """Whether `room.module`, or a name in it, is there."""
    at = ROOT
    for part in name.removeprefix("driftline.").split("."):
        if (at / part).is_dir():
            at /= part
            continue
        module = at / f"{part}.py"
        if module.exists():
            at = module
            continue
        holder = at / "__init__.py" if at.is_dir() else at
        return holder.exists() and re.search(rf"\b{part}\b", holder.read_text("utf-8")) is not None
    return True


def _references() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for name in REFERENCE.findall(line):
                if name.split(".")[0] in {*ROOMS, "driftline"}:
                    yield f"{path.relative_to(ROOT)}:{number}", name


def test_modules_that_are_named_exist() -> None:
    found = list(_references())
    assert len(found) > 50
    assert [(place, name) for place, name in found if not _exists(name)] == []


def test_a_module_that_was_moved_would_be_found() -> None:
    assert _exists("core.fold.merge.Merge")
    assert not _exists("core.merge")
    assert not _exists("core.fold.merge.NoSuchName")
