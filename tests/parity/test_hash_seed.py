"""The same inputs give the same bits under every PYTHONHASHSEED."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ("0", "1", "31337")


async def digests(seed: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.parity.hashed",
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def test_outputs_and_state_are_the_same_under_three_hash_seeds() -> None:
    printed = await asyncio.gather(*(digests(seed) for seed in SEEDS))
    assert len(printed[0].splitlines()) == 4
    assert len(set(printed)) == 1, "\n".join(printed)
