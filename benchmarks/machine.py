"""Cores, versions, and processes of their own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from driftline.core.model.fast import logistic, named
from driftline.core.model.fast.weighted import arithmetic
from driftline.devbroker.java import kafka_version

PACKAGES = (
    "aiokafka", "confluent-kafka", "bytewax", "quixstreams", "faust-streaming", "river", "orjson", "msgspec", "numpy",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


def split_cores() -> tuple[int | None, int | None]:
    """A core for whoever is measured and another for the broker; None where they cannot be had apart.

    Pins this process to the broker's core, so that the broker, started by it, is there too.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None, None
    os.sched_setaffinity(0, {cores[1]})
    return cores[0], cores[1]


def pin(core: int | None) -> None:
    """Keep this process on one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def versions() -> dict[str, str]:
    """What was run."""
    how = arithmetic if named.is_compiled and logistic.is_compiled else "in Python"
    found = {"python": platform.python_version(), "kafka": kafka_version(), "arithmetic": how}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # what is compared with need not be there
            found[name] = version(name)
    return found


def command(module: str, options: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.contender.{module}", json.dumps(options)]


def run(module: str, options: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Run a contender to its end and return what it reports in its last line.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    done = subprocess.run(
        command(module, options), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-3000:]}")
    reported: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return reported
