"""What happened to a shard between two of its notes: model versions and what made them, drift, trips of the guard.

The counts of a note are since the beginning, so what lies between two notes is known however far apart they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from driftline.web.curve import Mark
from driftline.web.record import NAME_MAX, Guard, Note, cut

NAMES_SHOWN = 4
_BETTER = ("error drift fall",)  # what the detector of the error finds where the model improves
_CAUSES = (
    ("control_load", "load", "loaded by command"),
    ("control_reset", "reset", "reset by command: an untrained model"),
    ("reaction_reset", "drift", "drift ({drifts}): an untrained model took over"),
    ("reaction_swap", "drift", "drift ({drifts}): the model that had learned beside it took over"),
    ("reaction_boost", "drift", "drift ({drifts}): the same model learns faster for a while"),
    ("quarantine_undone", "undone", "suspect labels: back to a copy from before them"),
)


class Version(Struct, frozen=True, gc=False):
    """A generation of a shard's model.

    Args:
        cause: `first`, `unread`, `load`, `reset`, `drift`, `undone`, `fallback` or `restart`.
        text: what made it.
        learned: labels that it had learned when it was first seen; None where that is not known.
        wall_ms, time_ms: when it was first seen, by the wall and in event time.
        exact: another generation was seen just before, so it began then.
    """

    shard: int
    generation: str
    cause: str
    text: str
    learned: int | None
    wall_ms: int
    time_ms: int | None
    exact: bool = True


def first_version(shard: int, note: Note, wall_ms: int) -> Version:
    """The version that the first note names."""
    generation = _generation(note)
    if generation == "0":
        cause, text = "first", "the first model"
    else:
        cause, text = "unread", "made before what this page has read"
    return Version(shard, generation, cause, text, note.known, wall_ms, note.watermark_ms, exact=False)


def next_version(shard: int, old: Note, new: Note, wall_ms: int) -> Version | None:
    """The version that took over between two notes; None where none did."""
    generation, before = _generation(new), _generation(old)
    if generation == before or not before:
        return None
    cause, text = _made_by(old, new, int(generation or 0) - int(before) if _numbers(generation, before) else 1)
    return Version(shard, generation, cause, text, new.known, wall_ms, new.watermark_ms)


def _made_by(old: Note, new: Note, generations: int) -> tuple[str, str]:
    """Why another model serves; the last of several reasons names the cause."""
    if generations < 0:
        return "restart", "the shard began anew, without its state"
    drifts = ", ".join(cut(name, 60) for name in _grown(old.drifts, new.drifts)[:NAMES_SHOWN]) or "of the error"
    found = []
    for count, cause, text in _CAUSES:
        times = new.counts.get(count, 0) - old.counts.get(count, 0)
        if times > 0:
            generations -= 1 if cause == "undone" else times
            found.append((cause, f"{text.format(drifts=drifts)}{_by(old, new, cause)}"))
    if generations > 0:
        found.append(("fallback", "the model had no finite answer: back to its last good copy"))
    return found[-1][0], "; ".join(text for _, text in found)


def _by(old: Note, new: Note, command: str) -> str:
    """Who sent the latest command of a kind."""
    sent = [one for one in new.commands if one.command == command and one not in old.commands]
    return f" ({cut(sent[-1].by, NAME_MAX)})" if sent and sent[-1].by else ""


def marks_of(shard: int, old: Note, new: Note, wall_ms: int) -> Iterator[Mark]:
    """What is marked on the curve, other than versions and trips."""
    grown = _grown(old.drifts, new.drifts)
    for kind, word, names in (
        ("drift", "Drift", [name for name in grown if name not in _BETTER]),
        ("better", "Fewer errors", [name for name in grown if name in _BETTER]),
    ):
        if names:
            text = f"{word}: {'; '.join(cut(name, NAME_MAX) for name in names[:NAMES_SHOWN])}"
            yield Mark(kind, text, wall_ms, new.watermark_ms, shard)
    if new.frozen != old.frozen:
        text = "Learning was frozen" if new.frozen else "Learning goes on"
        yield Mark("model", text, wall_ms, new.watermark_ms, shard)


def version_mark(version: Version, before: Note) -> Mark:
    """A version on the curve."""
    text = (
        f"Model generation {cut(version.generation, 20)} took over from {cut(_generation(before), 20)}: {version.text}"
    )
    return Mark("model", text, version.wall_ms, version.time_ms, version.shard)


def trips_between(old: Guard | None, new: Guard | None) -> tuple[int, str]:
    """How often rungs of the guard tripped, and what they did."""
    old, new = old or Guard(), new or Guard()
    tripped = {name: count - old.tripped.get(name, 0) for name, count in new.tripped.items()}
    trips = {name: count for name, count in sorted(tripped.items(), key=lambda one: -one[1]) if count > 0}
    count = sum(trips.values())
    rungs = ", ".join(
        f"{cut(name, 60).replace(' ', ', ', 1)}: {times:,}" for name, times in list(trips.items())[:NAMES_SHOWN]
    )
    served = {name: count - old.instead.get(name, 0) for name, count in new.instead.items()}
    instead = [
        f"{times:,} served {cut(name, 60).replace('_', ' ')} instead" for name, times in served.items() if times > 0
    ]
    return count, f"The guard acted on {count:,} prediction{'s' * (count != 1)} ({'; '.join([rungs, *instead])})"


def _generation(note: Note) -> str:
    return cut(note.version.partition(".")[0], 20)


def _grown(old: dict[str, int], new: dict[str, int]) -> list[str]:
    return [name for name, count in new.items() if count > old.get(name, 0)]


def _numbers(*texts: str) -> bool:
    return all(text.isdecimal() for text in texts)
