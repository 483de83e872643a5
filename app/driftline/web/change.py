"""What happened to a shard between two of its notes: model versions and what made them, drift, trips of the guard.

The counts of a note are since the beginning, so what lies between two notes is known however far apart they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from driftline.core.error import InvariantError
from driftline.core.signal import Signal
from driftline.core.wording import RUNGS
from driftline.web.curve import Mark
from driftline.web.record import NAME_MAX, Guard, Note, cut

NAMES_SHOWN = 4
EXACT_MS = 60_000  # of event time between two notes; what happened within more is not dated by the later one
_ACTIONS = {"hold": "held", "clip": "clipped", "flag": "flagged", "fallback": "replaced"}  # others as they are
_SURE = {"warning": " (a warning)", "calm": " (a warning that is over)"}
_CAUSES = (
    ("control_load", "load", "loaded by command"),
    ("control_reset", "reset", "an untrained model: reset by command"),
    ("reaction_reset", "drift", "an untrained model, after drift ({drifts})"),
    ("reaction_swap", "drift", "the model that had learned beside it, after drift ({drifts})"),
    ("reaction_boost", "drift", "the same model, which learns faster for a while, after drift ({drifts})"),
    ("quarantine_undone", "undone", "a copy from before suspect labels"),
)


class Version(Struct, frozen=True, gc=False):
    """A generation of a shard's model.

    Args:
        cause: `first`, `unread`, `load`, `reset`, `drift`, `undone`, `fallback` or `restart`.
        text: what made it.
        learned: labels that it had learned when it was first seen; None where that is not known.
        wall_ms, time_ms: when it was first seen, by the wall and in event time.
        exact: another generation was seen just before, so it began then.
        from_ms: it began between this and `time_ms`, and nothing shows when; None where `time_ms` is exact.
    """

    shard: int
    generation: str
    cause: str
    text: str
    learned: int | None
    wall_ms: int
    time_ms: int | None
    exact: bool = True
    from_ms: int | None = None


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
    return Version(shard, generation, cause, text, new.known, wall_ms, new.watermark_ms, from_ms=from_ms_of(old, new))


def _made_by(old: Note, new: Note, generations: int) -> tuple[str, str]:
    """Why another model serves; the last of several reasons names the cause."""
    if generations < 0:
        return "restart", "the shard began anew, without its state"
    causes = [name for name in _grown(old.drifts, new.drifts) if not _is_good(name)]  # the rest changes no model
    drifts = ", ".join(_moved(name) for name in causes[:NAMES_SHOWN]) or "of the error"
    found = []
    for count, cause, text in _CAUSES:
        times = new.counts.get(count, 0) - old.counts.get(count, 0)
        if times > 0:
            generations -= 1 if cause == "undone" else times
            found.append((cause, f"{text.format(drifts=drifts)}{_by(old, new, cause)}"))
    if generations > 0:
        found.append(("fallback", "its last good copy, because the model had no finite answer"))
    return found[-1][0], "; ".join(text for _, text in found)


def _by(old: Note, new: Note, command: str) -> str:
    """Who sent the latest command of a kind."""
    sent = [one for one in new.commands if one.command == command and one not in old.commands]
    return f" ({cut(sent[-1].by, NAME_MAX)})" if sent and sent[-1].by else ""


def marks_of(shard: int, old: Note, new: Note, wall_ms: int) -> Iterator[Mark]:
    """What is marked on the curve, other than versions and trips."""
    grown = _grown(old.drifts, new.drifts)
    for kind, names in (
        ("drift", [name for name in grown if not _is_good(name)]),
        ("better", [name for name in grown if _is_good(name)]),
    ):
        if names:
            text = ", ".join(_moved(name) for name in names[:NAMES_SHOWN])
            text = f"{text[:1].upper()}{text[1:]}"
            yield Mark(kind, text, wall_ms, new.watermark_ms, shard, from_ms=from_ms_of(old, new))
    if new.frozen != old.frozen:
        text = "Learning was frozen" if new.frozen else "Learning goes on"
        yield Mark("model", text, wall_ms, new.watermark_ms, shard, from_ms=from_ms_of(old, new))


def version_mark(version: Version, before: Note) -> Mark:
    """A version on the curve."""
    text = (
        f"Generation {cut(version.generation, 20)} of the model follows {cut(_generation(before), 20)}: {version.text}"
    )
    return Mark("model", text, version.wall_ms, version.time_ms, version.shard, from_ms=version.from_ms)


def from_ms_of(old: Note, new: Note) -> int | None:
    """Since when what differs may have happened; None where the notes are so close that it makes no difference."""
    if old.watermark_ms is None or new.watermark_ms is None or new.watermark_ms - old.watermark_ms <= EXACT_MS:
        return None
    return old.watermark_ms


def trips_between(old: Guard | None, new: Guard | None) -> tuple[int, str]:
    """How often rungs of the guard tripped, and what they did."""
    old, new = old or Guard(), new or Guard()
    tripped = {name: count - old.tripped.get(name, 0) for name, count in new.tripped.items()}
    trips = {name: count for name, count in sorted(tripped.items(), key=lambda one: -one[1]) if count > 0}
    count = sum(trips.values())
    rungs = ", ".join(f"{times:,} {_stopped(cut(name, 60))}" for name, times in list(trips.items())[:NAMES_SHOWN])
    served = {name: count - old.instead.get(name, 0) for name, count in new.instead.items()}
    instead = [
        f"{times:,} served {cut(name, 60).replace('_', ' ')} instead" for name, times in served.items() if times > 0
    ]
    return count, f"The guard acted on {count:,} prediction{'s' * (count != 1)}: {'; '.join([rungs, *instead])}"


def _stopped(trip: str) -> str:
    """A rung and its action, in words: `range hold` is `held (out of range)`."""
    rung, _, action = trip.partition(" ")
    did = _ACTIONS.get(action, action)
    why = RUNGS.get(rung, rung)
    return f"{did} ({why})" if did else why


def _parts(name: str) -> tuple[str, str, str]:
    """What a detector watches, what it found, and which way that went: `error drift rise`."""
    watched, kind, direction = [*name.rsplit(" ", 2), "", ""][:3]
    return watched, kind, direction


def _is_good(name: str) -> bool:
    """Whether what a detector saw went the way that nobody is alerted of: errors fell, labels came sooner."""
    watched, _, direction = _parts(name)
    try:
        signal, _ = Signal.read(watched)
    except InvariantError:
        return False
    return bool(direction) and signal.row.bad not in ("both", direction)


def _moved(name: str) -> str:
    """What a detector saw, in words: `error drift rise` is `errors rose`; a name that is none of ours as it is."""
    watched, kind, direction = _parts(name)
    try:
        signal, what = Signal.read(watched)
    except InvariantError:
        return cut(name, NAME_MAX)
    feature, _, value = what.partition("=")
    subject = (
        signal.row.stood.format("", feature, value) if signal.of_feature else signal.row.cause.removeprefix("its ")
    )
    moved = {"rise": "rose", "fall": "fell"}.get(direction, direction)
    return cut(f"{subject} {moved}{_SURE.get(kind, '')}", NAME_MAX)


def _generation(note: Note) -> str:
    return cut(note.version.partition(".")[0], 20)


def _grown(old: dict[str, int], new: dict[str, int]) -> list[str]:
    return [name for name, count in new.items() if count > old.get(name, 0)]


def _numbers(*texts: str) -> bool:
    return all(text.isdecimal() for text in texts)
