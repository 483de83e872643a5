"""One sentence: is all well, and if not, what is wrong and since when. Everything is looked at, the worst comes first.

Pure: what is known comes as arguments, and so does the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from driftline.core.timestamp import written
from driftline.core.wording import percent
from driftline.engine.fullness import FULL
from driftline.web.advice import Step, done_of, steps_of
from driftline.web.board import CRITICAL, Board, Episode, Shard
from driftline.web.record import cut

STALLED_MS = 30_000  # a shard with records to read that has written nothing for so long does not move
MISSED_S = 15  # within which Kafka misses a worker that died: its session of 10 s, and a rebalance
LATE_MS = 15_000  # so long after what it has read of the topics, the page says that it is late
QUIET_MS = 60_000
LEFT_MS = 600_000  # so long after a worker left, that is worth a word
LAG_MAX = 10_000  # records; beyond, being behind is worth a word

Level: TypeAlias = Literal["bad", "warning", "waiting", "good"]


class Situation(Struct, frozen=True):
    """What the topics do not say.

    Args:
        now_ms: wall time.
        away_ms: since when Kafka has not answered; None while it does.
        loaded: the history has been read.
        trouble: why the page cannot read the topics although Kafka answers; empty where it can.
    """

    now_ms: int
    away_ms: int | None = None
    loaded: bool = True
    trouble: str = ""


class Finding(Struct, frozen=True):
    """Something worth a word.

    Args:
        since_ms: wall time; None where that is not known.
        place: section of the page that has more of it.
        step: what to do about it.
    """

    level: Level
    text: str
    since_ms: int | None = None
    place: str = ""
    step: Step | None = None


class Verdict(Struct, frozen=True):
    """The sentence, and what else there is to say: what was done about it, and what to do."""

    level: Level
    text: str
    since_ms: int | None
    place: str
    also: Sequence[Finding]
    done: Sequence[str] = ()
    steps: Sequence[Step] = ()


def verdict_of(board: Board, situation: Situation) -> Verdict:
    """How the pipeline is."""
    found = sorted(_findings(board, situation), key=lambda one: _RANK[one.level])
    if found and found[0].level != "good":
        first = found[0]
        there = _open(board)
        steps = steps_of((one.step for one in found), there)
        return Verdict(first.level, first.text, first.since_ms, first.place, found[1:], done_of(board, there), steps)
    ended = max((one for one in board.episodes.values() if not one.is_open), key=lambda one: one.wall_ms, default=None)
    done = [f"Last alert: {cut(ended.alert.sentence)}"] if ended is not None else []
    return Verdict("good", "All is well.", ended.wall_ms if ended is not None else None, "", found, done)


_RULE = Step(
    "Are they wrong? `driftline control -p FILE drop`, else `release`; at the deadline the pipeline file decides.",
    "quarantine",
)
_UNFREEZE = Step("`driftline control -p FILE unfreeze` lets it learn again.", "learning-frozen")
_OTHERS = ("data_science", "domain_expert")
_TELL = dict.fromkeys(_OTHERS, "Tell the operator.")
_OUTAGE = dict.fromkeys(
    _OTHERS, "Tell the operator: Kafka or the network must come back; the workers resume by themselves."
)
_LEVELS: dict[bool, Level] = {True: "bad", False: "warning"}  # of what is critical, and what is not
_RANK: dict[Level, int] = {"bad": 0, "waiting": 1, "warning": 2, "good": 3}


def _findings(board: Board, situation: Situation) -> Iterator[Finding]:
    if situation.away_ms is not None:
        text = "Kafka does not answer. Nothing is scored until it does, and nothing is lost; the figures below are old."
        step = Step("Bring Kafka or the network back; the workers resume by themselves.", "kafka-unavailable", _OUTAGE)
        yield Finding("bad", text, situation.away_ms, "workers", step)
    elif situation.trouble:
        yield Finding("bad", f"The topics cannot be read: {situation.trouble}", None, "workers")
    elif not situation.loaded:
        yield Finding("waiting", "Reading the topics.")
        return
    if not any(shard.note is not None for shard in board.shards.values()):
        yield Finding("waiting", "No data: no event has been processed yet.")
    if situation.away_ms is None:
        yield from _workers(board, situation.now_ms)
    if situation.away_ms is None and board.read_ms and situation.now_ms - board.read_ms > LATE_MS:
        late_s = (situation.now_ms - board.read_ms) // 1000
        text = f"This page is {late_s:,} s late: it has not read what was written since. Its worker has too much to do."
        yield Finding("warning", text, board.read_ms, "workers")
    yield from _alerts(board)
    yield from _shards(board, situation.now_ms)
    if board.reviews:
        waiting = f"{len(board.reviews):,} prediction{'s wait' if len(board.reviews) > 1 else ' waits'}"
        due = written(min(one.deadline_ms for one in board.reviews.values()), "%Y-%m-%d %H:%M")
        step = Step(f"Decide on the held predictions: the first is due at {due} event time.", "reviews-wait")
        yield Finding("warning", f"{waiting} for a decision.", None, "reviews", step)


def _workers(board: Board, now_ms: int) -> Iterator[Finding]:
    """Shards that nobody has, and shards that do not move."""
    workers = board.workers
    if workers is not None and board.whole:
        here = [one for one in workers.values() if one.gone_ms is None]
        gone = [one.gone_ms for one in workers.values() if one.gone_ms is not None]
        owned = {number for one in here for number in one.shards}
        alone = [number for number in board.shards if number not in owned]
        if not here:
            text, step = "No worker is running: nothing is scored.", Step("Start a worker.", "no-worker", _TELL)
            yield Finding("bad", text, max(gone, default=None), "workers", step)
        elif alone:
            text = f"{_named(alone)} no worker: {'their' if len(alone) > 1 else 'its'} events wait."
            step = Step("Wait a minute for another worker to take over; otherwise, start one.", "no-worker", _TELL)
            yield Finding("bad", text, max(gone, default=None), "workers", step)
        elif (left_ms := max(gone, default=0)) > now_ms - LEFT_MS:
            yield Finding("good", "A worker left; the others have its shards.", left_ms, "workers")
    yield from _silent(board, now_ms)


def _silent(board: Board, now_ms: int) -> Iterator[Finding]:
    """Shards that write nothing while records wait: for long, or not long enough to know whether they are stuck."""
    silent = [one for one in board.shards.values() if one.moved_ms and one.backlog.is_silent(board.read_ms)]
    stuck = [one for one in silent if now_ms - max(one.moved_ms, one.backlog.waiting_since_ms()) > STALLED_MS]
    for shard in stuck:
        text = f"Shard {shard.number} is stuck, with {sum(shard.behind.values()):,} records to read."
        step = Step("Look at the log of its worker, and at `/health/ready`.", "worker-not-ready", _TELL)
        yield Finding("bad", text, shard.moved_ms, "workers", step)
    if unknown := [one for one in silent if one not in stuck]:
        silent_s = max(one.backlog.silent_ms(board.read_ms) for one in unknown) // 1000
        behind = sum(sum(one.behind.values()) for one in unknown)
        text = (
            f"{_named([one.number for one in unknown])} written nothing for {silent_s} s, with {behind:,} records to "
            f"read: slow, or without its worker. If that died, Kafka notices within {MISSED_S} s."
        )
        step = Step(f"Wait {MISSED_S} s: the shard goes on, or another worker takes it over.", "worker-not-ready")
        yield Finding("warning", text, min(one.moved_ms for one in unknown), "workers", step)


def _named(shards: Sequence[int]) -> str:
    return f"Shards {_listed(shards)} have" if len(shards) > 1 else f"Shard {_listed(shards)} has"


def _listed(shards: Sequence[int]) -> str:
    return ", ".join(map(str, shards[:8])) + (", ..." if len(shards) > 8 else "")


def _alerts(board: Board) -> Iterator[Finding]:
    """Open episodes, the worst and then the latest first: what happened, how many more, and how the first is now."""
    there = _open(board)
    for severity in (True, False):
        ours = [one for one in there if (one.alert.severity == CRITICAL) is severity]
        if ours:
            first, level = ours[0], _LEVELS[severity]
            text, last = f"{first.opening}{_answered(first)}{_more(ours, severity)}", cut(first.alert.sentence)
            yield Finding(level, text, first.opened_wall_ms, "episodes")
            if last != first.opening:
                yield Finding(level, f"Now: {last}", None, "episodes")


def _more(there: Sequence[Episode], critical: bool) -> str:
    """The other episodes: the first one's problem on other shards, and how many others."""
    first = there[0]
    same = [one for one in there[1:] if one.alert.kind == first.alert.kind and one.shard != first.shard]
    shards = sorted({one.shard for one in same})
    others = len(there) - 1 - len(same)
    text = f" The same on shard{'s' * (len(shards) > 1)} {_listed(shards)}." if shards else ""
    return text + (f" And {others} more {'critical ' * critical}alert{'s' * (others > 1)}." if others else "")


def _open(board: Board) -> list[Episode]:
    """Open episodes, the worst and then the latest first."""
    there = [one for one in board.episodes.values() if one.is_open]
    return sorted(there, key=lambda one: (one.alert.severity != CRITICAL, -one.opened_wall_ms))


def _answered(episode: Episode) -> str:
    """Whether someone has seen to it."""
    alert = episode.alert
    if alert.acknowledged:
        return f" Acknowledged{f' by {cut(alert.acknowledged_by, 100)}' if alert.acknowledged_by else ''}."
    return " Silenced." if alert.silenced else ""


def _shards(board: Board, now_ms: int) -> Iterator[Finding]:
    for shard in board.shards.values():
        note = shard.note
        if note is None:
            continue
        if note.full is not None and note.full >= FULL:
            text = f"Shard {shard.number} is {percent(min(note.full, 1.0))} full and will fall behind."
            step = Step("Give its worker a core of its own, or simplify the model.", "shard-full", _TELL)
            yield Finding("warning", text, None, "workers", step)
        if note.frozen:
            text, step = f"Shard {shard.number} is frozen: it scores, but does not learn.", _UNFREEZE
            yield Finding("warning", text, None, "workers", step)
        if note.learning is not None and note.learning.held:
            text = f"{note.learning.held:,} labels of shard {shard.number} are held back from learning."
            yield Finding("warning", text, None, "models", _RULE)
        if note.learning is not None and note.learning.stopped and not note.frozen:
            text = f"Shard {shard.number} does not learn while an alert is open (freeze_on): it only scores."
            yield Finding("warning", text, None, "models")
        if note.known == 0 and note.counts.get("scored"):
            text = "The model is untrained: its predictions mean nothing yet."
            yield Finding("warning", text, None, "metric")
        if (behind := sum(shard.behind.values())) > LAG_MAX:
            text = f"Shard {shard.number} is {behind:,} records behind and works through them."
            step = Step("Wait: lag falls by itself. If it grows, see how full the shard is.", "lag-grows")
            yield Finding("warning", text, None, "workers", step)
    yield from _quiet([shard for shard in board.shards.values() if shard.moved_ms], now_ms)


def _quiet(shards: Sequence[Shard], now_ms: int) -> Iterator[Finding]:
    """Nothing comes: that may be as it should be, or not."""
    if shards and all(now_ms - one.moved_ms > QUIET_MS and not any(one.behind.values()) for one in shards):
        text = f"No new records. Idle workers write nothing: one that dies now is missed within {MISSED_S} s."
        yield Finding("good", text, max(one.moved_ms for one in shards), "numbers")
        return
    labelled_ms = max((one.labelled_ms for one in shards), default=0)
    scored = any(one.rates(now_ms)[0] for one in shards)
    if scored and labelled_ms and now_ms - labelled_ms > QUIET_MS:
        yield Finding("good", "Events arrive, but no labels.", labelled_ms, "labels")
