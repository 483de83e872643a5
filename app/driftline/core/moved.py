"""Under which name states know a class of Driftline's that has moved.

Pickles and digests name the module of a class. What was written before a move must still be read, and a digest must not
change with it: so a digest takes the name under which states first knew the class, and a state may use either name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MOVED: Final[Mapping[str, tuple[str, ...]]] = {
    "driftline.core.record": ("app.core.record",),
    "driftline.core.output": ("app.core.output",),
    "driftline.core.alert.content": ("app.core.alert",),
    "driftline.core.alert.episode": ("app.core.episode",),
    "driftline.core.alert.watch": ("app.core.watch",),
    "driftline.core.drift.change_point": ("app.core.trail",),
    "driftline.core.drift.feature": ("app.core.feature",),
    "driftline.core.drift.monitor": ("app.core.monitor",),
    "driftline.core.drift.monitors": ("app.core.drift",),
    "driftline.core.drift.reaction": ("app.core.reaction",),
    "driftline.core.drift.reference": ("app.core.reference",),
    "driftline.core.fault": ("app.core.poison",),
    "driftline.core.fold.feedback": ("app.core.feedback",),
    "driftline.core.fold.future": ("app.core.ahead",),
    "driftline.core.fold.incident": ("app.core.trouble",),
    "driftline.core.fold.load": ("app.core.takeover",),
    "driftline.core.fold.loss": ("app.core.lost",),
    "driftline.core.fold.merge": ("app.core.merge",),
    "driftline.core.fold.step": ("app.core.step",),
    "driftline.core.label.cause": ("app.core.cause",),
    "driftline.core.label.early": ("app.core.early",),
    "driftline.core.label.ledger": ("app.core.join",),
    "driftline.core.label.partitioner": ("app.core.partitioner",),
    "driftline.core.label.pending": ("app.core.waiting",),
    "driftline.core.label.unmatched": ("app.core.stray",),
    "driftline.core.metric.evaluation": ("app.core.evaluate",),
    "driftline.core.metric.maturity": ("app.core.maturity",),
    "driftline.core.model.dispatch": ("app.core.walk",),
    "driftline.core.model.fast._weighted": ("app.core._weighted",),
    "driftline.core.model.fast.hoeffding": ("app.core.hoeffding",),
    "driftline.core.model.fast.kernel": ("app.core.kernel",),
    "driftline.core.model.fast.scaled_linear": ("app.core.line",),
    "driftline.core.model.fast.weighted": ("app.core.weighted",),
    "driftline.core.model.learner": ("app.core.model",),
    "driftline.core.pickle.allowlist": ("app.core.admit",),
    "driftline.core.pickle.container": ("app.core.vessel",),
    "driftline.core.pickle.reader": ("app.core.thaw",),
    "driftline.core.pickle.river_classes": ("app.core.roster",),
    "driftline.core.pickle.writer": ("app.core.pickling",),
    "driftline.core.pipeline.target": ("app.core.target",),
    "driftline.core.river.arrival": ("app.core.arrival",),
    "driftline.core.river.building": ("app.core.build",),
    "driftline.core.river.calibration": ("app.core.calibration",),
    "driftline.core.river.curve": ("app.core.curve",),
    "driftline.core.river.expression": ("app.core.expression",),
    "driftline.core.river.learning_rate": ("app.core.rate",),
    "driftline.core.river.seed": ("app.core.seed",),
    "driftline.core.river.select": ("app.core.select",),
    "driftline.core.river.timed": ("app.core.timed",),
    "driftline.core.shard.command": ("app.core.command",),
    "driftline.core.shard.outbox": ("app.core.outbox",),
    "driftline.core.shard.state": ("app.core.shard",),
    "driftline.core.shard.upload": ("app.core.loading",),
    "driftline.core.state.adopt": ("app.core.adopt",),
    "driftline.core.state.freeze": ("app.core.freeze",),
    "driftline.core.state.likeness": ("app.core.likeness",),
    "driftline.core.state.migration": ("app.core.migration",),
    "driftline.core.state.model_file": ("app.core.trained",),
    "driftline.core.timestamp": ("app.core.moment",),
}
"""By module, the modules in which its classes stood before, the first first. A module that moves again keeps them, and
gains the one that it leaves."""


def lasting_name(thing: Any) -> str:
    """The name of a class or function that does not change when its module moves."""
    return f"{MOVED.get(thing.__module__, (thing.__module__,))[0]}.{thing.__qualname__}"
