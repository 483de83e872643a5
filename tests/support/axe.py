"""axe-core on a page: what a person with a screen reader, a keyboard or weak eyes would stumble over.

It is no part of the project: fetched once from the npm registry that the machine is set to, into the user's cache.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.support.browser import Page

VERSION = "4.10.3"
FETCH_S = 60.0
SERIOUS = ("serious", "critical")


def source() -> str:
    """The script; the test is skipped where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "driftline"
    file = cache / f"axe-core-{VERSION}.js"
    if not file.exists():
        if shutil.which("npm") is None:
            pytest.skip(f"needs axe-core {VERSION}: `npm` fetches it, and is not installed")
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", "--silent", f"axe-core@{VERSION}"]
            try:
                subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=FETCH_S)
            except (subprocess.SubprocessError, OSError) as error:
                pytest.skip(f"needs axe-core {VERSION}: `npm pack axe-core@{VERSION}` failed ({error})")
            with tarfile.open(Path(folder) / f"axe-core-{VERSION}.tgz") as package:
                member = package.extractfile("package/axe.min.js")
                assert member is not None
                cache.mkdir(parents=True, exist_ok=True)
                file.write_bytes(member.read())
    return file.read_text("utf-8")


async def faults(page: Page) -> list[str]:
    """The serious faults of a page as it is now, one line each."""
    if not await page.value("typeof axe !== 'undefined'"):
        await page.value(await asyncio.to_thread(source))
    found = await page.value(
        "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.flatMap(one =>"
        " one.nodes.map(node => [one.impact, `${one.id}: ${node.target} ${node.failureSummary}`])))"
    )
    assert found is not None, "axe did not run"
    return [text for impact, text in found if impact in SERIOUS]
