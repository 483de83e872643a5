"""What a pipeline needs at a given rate: pending events, memory, and the retention of its topics.

The state that grows is the map of events that wait for their label: rate times wait, up to `label.pending_max`
in each shard; beyond that the oldest are given up. Estimates, meant to size machines by, not to bill by.
"""

from __future__ import annotations

from msgspec import Struct

from driftline.core.history.plan import Plan, Scheme
from driftline.core.pipeline import Pipeline

# Bytes of one waiting event, measured on CPython 3.11 with ids of some 36 characters that are the keys as well, a
# million at once: 230 without features; 9 a number, 1 and its length a short text, 1 a boolean.
_EVENT_BYTES = 240
_FEATURE_BYTES = {"number": 9, "string": 20, "boolean": 1, "text": 200, "key": 20, "items": 300, "slate": 20}
_SEEN_BYTES = 190  # one remembered event id
_SNAPSHOTS_KEPT = 2
_HOUR_MS = 3_600_000
OUTAGE_MS = 24 * _HOUR_MS  # how long a worker may be away before inputs that it has not read yet are gone


class KeyNeed(Struct, frozen=True):
    """What the past of one `by` will need.

    Args:
        by: its fields.
        key_bytes: memory of a key whose windows are full; of a key with few events it is a fraction of that.
        keys_max: most keys, over all partitions.
        bytes: of all of them, full.
    """

    by: str
    key_bytes: int
    keys_max: int
    bytes: int


class Need(Struct, frozen=True):
    """What it will need, over all shards.

    Args:
        rate_per_s: events per second; None where none was given: then the bounds are reported.
        shards: over how many.
        pending_events: events that wait at once.
        pending_max: the bound on that, over all shards; reached means the oldest are given up.
        event_bytes: memory of one waiting event.
        pending_bytes: memory of all of them.
        seen_bytes: memory of the remembered event ids.
        retention_ms: least time that the events and labels topics must keep records, in whole hours.
        history: of each `by` of history features.
    """

    rate_per_s: float | None
    shards: int
    pending_events: int
    pending_max: int
    event_bytes: int
    pending_bytes: int
    seen_bytes: int
    retention_ms: int
    history: tuple[KeyNeed, ...] = ()

    @property
    def crowded(self) -> bool:
        """Whether events are given up before their wait is over."""
        return self.rate_per_s is not None and self.pending_events > self.pending_max


def need(pipeline: Pipeline, rate_per_s: float | None) -> Need:
    """Estimate what a pipeline needs.

    Args:
        rate_per_s: events per second over all shards; None to report the bounds.
    """
    label, shards = pipeline.label, pipeline.shards or 1
    pending_max = label.pending_max * shards if label else 0
    pending = pending_max
    seen = pipeline.dedupe.id_max * shards
    if rate_per_s is not None:
        pending = round(rate_per_s * label.wait_ms / 1_000) if label else 0
        seen = min(seen, round(rate_per_s * pipeline.dedupe.horizon_ms / 1_000))
    event_bytes = bytes_of_waiting(pipeline)
    return Need(
        rate_per_s=rate_per_s,
        shards=shards,
        pending_events=pending,
        pending_max=pending_max,
        event_bytes=event_bytes,
        pending_bytes=min(pending, pending_max) * event_bytes,
        seen_bytes=seen * _SEEN_BYTES,
        retention_ms=-(-(_SNAPSHOTS_KEPT * pipeline.snapshot.every_ms + OUTAGE_MS) // _HOUR_MS) * _HOUR_MS,
        history=tuple(_key_need(scheme, pipeline.event.keys_max * shards) for scheme in Plan.of(pipeline).schemes),
    )


def _key_need(scheme: Scheme, keys_max: int) -> KeyNeed:
    return KeyNeed(scheme.name, scheme.key_bytes_max, keys_max, scheme.key_bytes_max * keys_max)


def bytes_of_waiting(pipeline: Pipeline) -> int:
    """Memory of one event that waits for its label, in bytes."""
    return _EVENT_BYTES + sum(_FEATURE_BYTES[feature.type] for feature in pipeline.event.features.values())
