"""The promise, checked from the topics alone, as a read_committed reader finds them.

Nothing here uses the engine's recovery, its merge or its worker: what each journal makes when it is replayed
(`replayed`) is held against every byte in the output topics, and against what users sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import orjson

from driftline.codec.encode import Message
from driftline.codec.keyring import NO_KEYS
from driftline.codec.manifest import (
    RESTORED,
    Manifest,
    chunk_key,
    decode_index,
    decode_manifest,
    part_of,
    state_digest,
)
from driftline.core.error import DriftlineError
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import Frozen, dump, frozen_digest
from driftline.transport.port import Place
from tests.simulation import ahead, amended
from tests.simulation.lessons import overheard
from tests.simulation.loads import Ledger, unfit
from tests.simulation.replayed import KINDS, BrokenError, Fold, ever
from tests.simulation.sent import Send
from tests.simulation.setting import parsed, state_bounds
from tests.simulation.world import World
from tests.support.poisonous import disarmed

DECIDED = ("approved", "edited", "refused", "overdue")  # second scores of events that were held
ENDS = ("joined", "assumed", "expired", "failed")  # how an event's wait ends
UNJOINED = ("duplicate", "late", "orphan")  # what becomes of a label without an event that waits


def same_state(pipeline: Pipeline, one: bytes | Frozen, other: bytes) -> bool:
    """Whether two frozen states are equal bit for bit. Pickles may differ in what is one object and what is a copy.

    A model that raised was put back to a copy, which has not the empty entries that mere reading leaves in River's
    dicts: it says the same, and that is checked by every score after it, but its bits are not those of the replay.
    """
    if "poisonous" in pipeline.model:
        return True
    return one == other or state_of(pipeline, one) == state_of(pipeline, other)


def state_of(pipeline: Pipeline, frozen: bytes | Frozen) -> bytes:
    """The canonical digest of a frozen state."""
    return frozen_digest(pipeline, 0, frozen)


def judge(world: World) -> list[str]:
    """Everything that is not as it was promised."""
    found = list(world.violations)
    for partition in range(world.scenario.shard_count):
        try:
            with (
                disarmed(),
                state_bounds(world.scenario),
                overheard() as calls,
            ):  # a model that raised then and does not now: the journal says what raised
                fold = Fold(world, partition, calls).follow()
            if world.exact:
                _check_outputs(world, fold)
            else:
                _check_repeats(world, fold)
            _check_snapshots(world, fold)
            if not world.lost_for_good and not found:
                _check_lives(world, fold)
            if not world.lost and len(fold.epochs) and all(one.state == "kept" for one in fold.epochs[1:]):
                _check_promise(world, fold)
        except (BrokenError, DriftlineError) as error:
            found.append(f"{type(error).__name__}: {error}")
    found += [f"nobody caught: {failure}" for failure in world.loop.failures]
    return found


# -- outputs


def _as_written(sources: Sequence[Source], kind: str) -> list[Message]:
    return [
        Message(one.topic, one.partition, one.key, one.value, one.record_time_ms, one.headers, kind=kind)
        for one in sources
    ]


def _check_outputs(world: World, fold: Fold) -> None:
    """Byte by byte, in order, nothing missing and nothing twice."""
    for kind in KINDS:
        topic = getattr(world.pipeline.topics, kind)
        if topic is None:
            continue
        written = _as_written(fold.written(topic), kind)
        wanted = sorted(fold.messages[kind], key=attrgetter("partition"))
        if written == wanted:
            continue
        at = next((i for i, (a, b) in enumerate(zip(written, wanted, strict=False)) if a != b), None)
        if at is None:
            at = min(len(written), len(wanted))
        raise BrokenError(
            f"{kind} {fold.partition}: {len(written)} are there, the journal makes {len(wanted)}; first difference at "
            f"{at}: {written[at : at + 1]} for {wanted[at : at + 1]}"
        )


def _check_repeats(world: World, fold: Fold) -> None:
    """Nothing is missing; what is there more than once has the same ids."""
    for kind in KINDS:
        topic = getattr(world.pipeline.topics, kind)
        if topic is None:
            continue
        written = _as_written(fold.written(topic), kind)
        if missing := Counter(map(_frozen, fold.messages[kind])) - Counter(map(_frozen, written)):
            raise BrokenError(f"{kind} {fold.partition}: {missing.total()} are missing, first {next(iter(missing))}")
        gone = any(fault.what in ("retain", "reset") for fault in world.scenario.faults)  # what was told may be skipped
        ids: dict[object, set[str]] = {}
        for message in written if kind in ("scores", "outcomes") and not gone else ():
            document = orjson.loads(message.value or b"{}")
            if document.get("guard") in DECIDED:
                continue
            if kind == "scores" or _is_end(document):
                ids.setdefault(document["event_id"], set()).add(document["output_id"])
        # an event that was sent twice has two records, and owners that read them in another order answer another one
        sent = Counter(str(send.event_id) for send in world.scenario.sends if send.kind == "event" and send.good)
        if several := {one: names for one, names in ids.items() if len(names) > max(1, sent[str(one)])}:
            raise BrokenError(f"{kind} {fold.partition}: the same thing under several ids: {several}")


def _frozen(message: Message) -> tuple[object, ...]:
    return message.key, message.value, message.timestamp_ms, message.headers


# -- snapshots and lives


def _check_snapshots(world: World, fold: Fold) -> None:
    """Each whole snapshot is the fold of the journal up to the entry that it names, which is there."""
    topic = world.pipeline.topics.snapshots
    records: dict[bytes, bytes | None] = {}  # None: damaged, or taken by retention, and so no fault of the engine's
    kept_from = world.cluster.log(Place(topic, fold.partition)).start
    for source in world.cluster.ever(Place(topic, fold.partition), committed=world.exact):
        key, value = source.key or b"", source.value
        if (fold.partition, source.offset) in world.damaged:
            records[key] = None
            continue
        if key.startswith(b"%d/" % RESTORED):
            continue
        if not key.endswith(b"manifest"):
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value if source.offset >= kept_from else None
            continue
        if value is None or source.offset < kept_from:
            continue
        manifest = decode_manifest(value, NO_KEYS)
        mark = fold.marks.get(manifest.journal_offset)
        if mark is None or (manifest.slice_number, manifest.chain, manifest.positions) != mark:
            if world.exact:
                raise BrokenError(
                    f"snapshot {fold.partition} at {source.offset}: it stands behind journal entry "
                    f"{manifest.journal_offset} (slice {manifest.slice_number}), which is not there"
                )
            continue
        if manifest.journal_offset in fold.states:
            _check_state(fold, manifest, records, exact=world.exact)


def _check_state(fold: Fold, manifest: Manifest, records: Mapping[bytes, bytes | None], *, exact: bool) -> None:
    if not exact and not _is_untorn(manifest, records):
        return  # one batch of it was refused, or a zombie's came between: recovery knows it by its digests
    frozen = _assembled(fold, manifest, records)
    if frozen is not None and not same_state(
        parsed(orjson.dumps(manifest.pipeline)), frozen, fold.states[manifest.journal_offset]
    ):
        raise BrokenError(f"snapshot {fold.partition} of slice {manifest.slice_number} is not what the journal makes")


def _is_untorn(manifest: Manifest, records: Mapping[bytes, bytes | None]) -> bool:
    """Whether head and parts are what the manifest says: then recovery takes it, and it must be right."""
    slot = manifest.slot
    head = b"".join(records.get(chunk_key(slot, number)) or b"" for number in range(manifest.chunks))
    if state_digest(head) != manifest.digest:
        return False
    parts = [part for row in decode_index(head[: manifest.index_bytes]) for part in (row.body, row.marks)]
    return all(part_of(b"".join(records.get(key) or b"" for key in part.keys(slot))) == part for part in parts)


def _assembled(fold: Fold, manifest: Manifest, records: Mapping[bytes, bytes | None]) -> Frozen | None:
    """The state that a manifest names, None where part of it was damaged or taken.

    Raises:
        BrokenError: part of it was never written, or removed though it is needed.
    """

    def joined(keys: Sequence[bytes]) -> bytes | None:
        found = [records.get(key, b"") for key in keys]
        lacking = [key for key, chunk in zip(keys, found, strict=True) if chunk == b""]
        if lacking:
            raise BrokenError(f"snapshot {fold.partition} of slice {manifest.slice_number} lacks {lacking}")
        return b"".join(chunk or b"" for chunk in found) if None not in found else None

    slot = manifest.slot
    head = joined([chunk_key(slot, number) for number in range(manifest.chunks)])
    if head is None:
        return None
    segments = []
    for row in decode_index(head[: manifest.index_bytes]):
        body, marks = joined(row.body.keys(slot)), joined(row.marks.keys(slot))
        if body is None or marks is None:
            return None
        segments.append(([body], [marks]))
    return Frozen(head[manifest.index_bytes :], segments)


def _check_lives(world: World, fold: Fold) -> None:
    """The shard that a worker holds at the end is the fold of its journal, bit for bit."""
    for life in world.lives.values():
        runner = life.worker.runners.get(fold.partition) if life.worker is not None else None
        if runner is None or runner.live is None or fold.shard is None:
            continue
        if not same_state(fold.shard.pipeline, dump(runner.live.shard), dump(fold.shard)):
            raise BrokenError(f"{life.name} holds another state of shard {fold.partition} than its journal makes")


# -- once and only once


def _check_promise(world: World, fold: Fold) -> None:
    """Each event scored once, each label learned once, each bad record rejected once, counted from what users sent."""
    partition, shard = fold.partition, fold.shard
    if shard is None:
        raise BrokenError(f"shard {partition} was never begun")
    events, labels, bad = _sent(world, fold)
    topics = world.pipeline.topics
    if world.pipeline.forecast is not None:
        _check_forecasts(fold, shard, events, bad)
        return
    if not world.exact:
        scores = {orjson.loads(one.value or b"")["event_id"] for one in fold.written(topics.scores)}
        if set(events) - scores:
            raise BrokenError(f"scores {partition}: lost are {sorted(set(events) - scores)}")
    documents: list[dict[str, Any]] = [orjson.loads(one.value or b"") for one in fold.messages["outcomes"]]
    published = [orjson.loads(one.value or b"") for one in fold.messages["scores"]]
    scored = Counter(one["event_id"] for one in published if one["guard"] not in DECIDED)
    _check_reviews(fold, shard, published)
    if scored != Counter(set(events)):
        wrong = (scored - Counter(set(events))) + (Counter(set(events)) - scored)
        raise BrokenError(f"scores {partition}: not once each: {sorted(wrong)}")
    reasons = Counter(dict(one.headers)["driftline.reason"] or b"" for one in fold.messages["rejected"])
    loads = Counter(
        {reason: count for reason, count in reasons.items() if reason.startswith((b"load_", b"control_repeated"))}
    )
    decided = (b"review_", b"quarantine_")
    reviews = Counter({reason: count for reason, count in reasons.items() if reason.startswith(decided)})
    rejected, wanted = (reasons - loads - reviews).total(), bad + len(events) - len(set(events))
    if rejected != wanted:
        raise BrokenError(f"rejected {partition}: {rejected}, not {wanted}")
    _check_loads(world, fold, shard, loads)
    ends = Counter(one["event_id"] for one in documents if _is_end(one))
    if any(count > 1 for count in ends.values()) or ends.keys() - scored.keys():
        raise BrokenError(f"outcomes {partition}: an event ends twice, or was never there: {ends}")
    if len(ends) + len(shard.pending) != len(scored):
        raise BrokenError(f"outcomes {partition}: {len(scored)} scored, {len(ends)} ended, {len(shard.pending)} wait")
    if shard.terms.slates:  # rewards are gathered, and published once a request
        told = sum(one["kind"] in UNJOINED for one in documents) + shard.counts.get("gathered", 0)
    else:
        told = amended.told(documents, ends=ENDS, unjoined=UNJOINED)
    if told + len(shard.early) != labels:
        raise BrokenError(f"outcomes {partition}: {labels} labels, {told} told of, {len(shard.early)} held")


def _is_end(outcome: Mapping[str, Any]) -> bool:
    """Whether an outcome says how a wait ended, and not what became of a later label."""
    return outcome["kind"] in ENDS and str(outcome["output_id"]).endswith("-1")


def _check_reviews(fold: Fold, shard: Shard, published: Sequence[dict[str, Any]]) -> None:
    """What was held waits, or was decided once."""
    held = Counter(one["event_id"] for one in published if one["guard"] == "held")
    decided = Counter(one["event_id"] for one in published if one["guard"] in DECIDED)
    if decided - held or held - decided != Counter(shard.kept.held.keys()):
        raise BrokenError(f"reviews {fold.partition}: held are {held}, decided {decided}, wait {list(shard.kept.held)}")


def _check_forecasts(fold: Fold, shard: Shard, events: Sequence[Any], bad: int) -> None:
    """Each observation is settled once, or rejected."""
    documents = [orjson.loads(one.value or b"") for one in fold.messages["outcomes"]]
    published = [orjson.loads(one.value or b"") for one in fold.messages["scores"]]
    scores = Counter(one["event_id"] for one in published if one["guard"] not in DECIDED)
    _check_reviews(fold, shard, published)
    reasons = [dict(one.headers)["driftline.reason"] or b"" for one in fold.messages["rejected"]]
    rejected = sum(not reason.startswith((b"load_", b"control_repeated", b"review_")) for reason in reasons)
    for fault in ahead.faults_of(events, bad, documents, scores, rejected):
        raise BrokenError(f"forecasts {fold.partition}: {fault}")


def _check_loads(world: World, fold: Fold, shard: Shard, rejected: Counter[bytes]) -> None:
    """Each model that may serve takes over once, and each part that is of no use is rejected once."""
    scenario = world.scenario
    ledger = Ledger(unfit(scenario.pipeline, signed=scenario.signed), signed=scenario.signed)
    place = Place(world.pipeline.topics.control, fold.partition)
    for source in ever(world, place):
        if fold.covers(source):
            ledger.take(orjson.loads(source.value or b"{}"))
    counts = shard.counts
    given_up = counts.get("load_given_up", 0)
    told = sum(orjson.loads(one.value or b"")["evidence"].get("reaction") == "load" for one in fold.messages["alerts"])
    if told != counts.get("control_load", 0) or told > ledger.changes:
        raise BrokenError(
            f"loads {fold.partition}: {told} told, {counts.get('control_load')} counted: {ledger.changes}"
        )
    if given_up or world.aged:
        return  # when, and under which version, is not for the ledger to know
    if (told, rejected.total()) != (ledger.changes, ledger.rejected):
        raise BrokenError(
            f"loads {fold.partition}: {told} of {ledger.changes} took over; rejected {dict(rejected)}, not "
            f"{ledger.rejected}"
        )


def _sent(world: World, fold: Fold) -> tuple[list[int], int, int]:
    """Event ids (repeats too), number of good labels, and number of bad records, of what the journal passed over."""
    topics = world.pipeline.topics
    names = {"event": topics.events, "label": topics.labels or "", "control": topics.control}
    known: dict[tuple[str, int, bytes | None, int], Send] = {
        (one.kind, one.partition, _raw(one), one.stamp_ms): one for one in world.scenario.sends
    }
    events: list[int] = []
    labels = bad = 0
    for kind, topic in names.items():
        for source in [one for place in fold.places(topic) for one in ever(world, place)]:
            if not fold.covers(source):
                continue
            send = known[kind, source.partition, source.value, source.record_time_ms]
            if not send.good:
                bad += send.value is not None  # a tombstone is passed over
            elif kind == "event":
                events.append(send.event_id)
            elif kind == "label":
                labels += 1
    return events, labels, bad


def _raw(send: Send) -> bytes | None:
    return None if send.value is None else send.value.encode("latin-1")
