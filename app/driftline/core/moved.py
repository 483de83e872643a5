"""Former names of Driftline's classes in states.

Pickles and digests name the module of a class. What was written before a move must still be read, and a digest must not
change with it: so a digest takes the name under which states first knew the class, and a state may use either name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MOVED: Final[Mapping[str, tuple[str, ...]]] = {
    "driftline.core.record": ("app.core.record",),
    "driftline.core.output": ("app.core.output",),
    "driftline.core.alert.episode": ("app.core.episode",),
    "driftline.core.alert.watch": ("app.core.watch",),
    "driftline.core.drift.change_point": ("app.core.trail",),
    "driftline.core.drift.feature": ("app.core.feature",),
    "driftline.core.drift.monitor": ("app.core.monitor",),
    "driftline.core.drift.monitors": ("app.core.drift",),
    "driftline.core.drift.reaction": ("app.core.reaction",),
    "driftline.core.drift.reference": ("app.core.reference",),
    "driftline.core.fault": ("app.core.poison",),
    "driftline.core.label.cause": ("app.core.cause",),
    "driftline.core.label.early": ("app.core.early",),
    "driftline.core.label.ledger": ("app.core.join",),
    "driftline.core.label.pending": ("app.core.waiting",),
    "driftline.core.label.unmatched": ("app.core.stray",),
    "driftline.core.metric.evaluation": ("app.core.evaluate",),
    "driftline.core.metric.maturity": ("app.core.maturity",),
    "driftline.core.model.learner": ("app.core.model",),
    "driftline.core.river.arrival": ("app.core.arrival",),
    "driftline.core.river.calibration": ("app.core.calibration",),
    "driftline.core.river.curve": ("app.core.curve",),
    "driftline.core.river.learning_rate": ("app.core.rate",),
    "driftline.core.river.select": ("app.core.select",),
    "driftline.core.shard.command": ("app.core.command",),
    "driftline.core.shard.upload": ("app.core.loading",),
}
"""By module whose classes are in states, the modules in which they stood before, the first first. A module that moves
again keeps them, and gains the one that it leaves."""


def lasting_name(thing: Any) -> str:
    """The name of a class or function that does not change when its module moves."""
    return f"{MOVED.get(thing.__module__, (thing.__module__,))[0]}.{thing.__qualname__}"
