"""What a journal entry carries for people, within bounds.

It is not a part of what is chained or replayed, so it may be left out. A pipeline that splits its metrics by the values
of a feature may have a thousand of them, of a thousand characters each: with all of them an entry would fit no
topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from driftline.core.shard.state import Shard

NOTE_BYTES_MAX = 256 * 1024
_FIRST_OUT = ("by_segment", "by_age", "drifts", "window_metrics", "span", "commands", "forecast", "kpi")


def note_of(shard: Shard, positions: Mapping[str, int], full: float | None = None) -> dict[str, Any]:
    """The numbers of a shard, and where its inputs go on; without the longest parts where it is too long.

    Args:
        full: how full it is, where that is known; see `engine.fullness`.
    """
    note = {**shard.summary(), "positions": dict(positions)}
    if full is not None:
        note["full"] = round(full, 3)
    for name in _FIRST_OUT:
        if len(orjson.dumps(note, option=orjson.OPT_NON_STR_KEYS)) <= NOTE_BYTES_MAX:
            break
        note.pop(name, None)
    return note
