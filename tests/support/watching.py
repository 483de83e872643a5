"""Monitors by the keys of a pipeline file, without the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from driftline.core.drift.monitors import DriftMonitors
from driftline.core.signal import BITS, DIRECT
from driftline.core.task import TaskName


def watching(task: TaskName, names: Sequence[str], **asked: Any) -> DriftMonitors:
    """Monitors of some signals.

    Args:
        asked: detectors by `drift.KEY`, and the other arguments of `DriftMonitors`.
    """
    direct = {signal: asked.pop(signal.row.key) for signal in DIRECT if signal.row.key in asked}
    bits = {signal: asked.pop(signal.row.key) for signal in BITS if signal.row.key in asked}
    return DriftMonitors(task, names, direct, bits=bits, **asked)
