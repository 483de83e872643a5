"""What happens in one simulation, drawn from its seed as plain data: it can be printed, cut down and run again.

Times are seconds of the simulation's own clock, from its start. Everything that is left to chance while it runs (how
long a request takes) is drawn from the same seed.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any, Literal, TypeAlias

from msgspec import Struct, structs

from tests.simulation import ahead, amended, budgeted, classes, guarded, lessons, priced
from tests.simulation.loads import KINDS, commands, signed_command
from tests.simulation.past import declare, with_keys
from tests.simulation.sent import Send
from tests.simulation.slates import recommend, with_item
from tests.support.poisonous import BAD

BASE_MS = 1_700_000_000_000  # wall time at the start
HOUR_MS = 3_600_000

What: TypeAlias = Literal[
    "crash",  # a worker dies; a request under way is lost (`arg` 0), arrives (1) or is late (2); back after `seconds`
    "pause",  # a worker stands still for `seconds`, and comes back as a zombie if that is longer than its session
    "stop",  # a worker is stopped cleanly, and started again after `seconds`
    "deploy",  # the same with another pipeline file, which the state can follow, or (`arg` 1) another River
    "reset",  # the same, and it begins with a fresh state
    "join",  # one more worker for `seconds`
    "evict",  # the group puts a worker out, which only learns so later; the request at hand takes `seconds`
    "lose",  # a request or an answer is lost
    "astray",  # the connection is lost with a request on its way, which comes `seconds` later, or after `arg` batches
    "slow",  # a request or an answer takes `seconds`
    "refuse",  # the broker does not take one batch
    "fence",  # the transaction time-out strikes, or a late starter: the owner's epoch is over
    "away",  # the broker is away for `seconds`: `arg` 0 refuses connections, 1 lets requests hang
    "snapshot",  # the newest snapshot is damaged: `arg` says how (see `damage.DAMAGES`)
    "retain",  # retention removes input that was read long ago (`arg` 0) or not at all yet (1)
    "stray",  # another program writes to the journal (at least once only: nothing fences it)
]

_SWAP = {  # so that models are replaced in most simulations
    "detector": "PageHinkley(min_instances=5, threshold=0.5)",
    "warning": "PageHinkley(min_instances=3, threshold=0.2)",
    "reaction": "swap",
}
STEPS = ("open", "opened", "batch", "appended", "commit", "committed", "poll", "read", "mark")


class Ending(Struct, frozen=True):
    """How a user's transaction ends."""

    transaction: int
    at_s: float
    commit: bool


class Widening(Struct, frozen=True):
    """Partitions are added to a topic, which then has `count`."""

    at_s: float
    topic: Literal["events", "labels", "scores"]
    count: int


class Fault(Struct, frozen=True, omit_defaults=True):
    """One thing that goes wrong.

    Args:
        at_s: when; or None, and it strikes when a worker's request comes to `step` the `nth` time.
        worker: whom, by number.
    """

    what: What
    at_s: float | None = None
    worker: int = 0
    step: str = ""
    nth: int = 0
    seconds: float = 0.0
    partition: int = 0
    arg: int = 0


class Scenario(Struct, frozen=True):
    """A whole simulation.

    Args:
        pipeline: sections of the pipeline's document.
        outputs: partitions of the outputs, 0 for as many as of the inputs.
        shards: 0 for one a partition.
        slowness: how often requests take their time, 0 to 1.
        labour: how often reading the clock finds that computing took a while, 0 to 1.
        end_s: from here on nothing goes wrong any more.
        gap_continue: workers are started with `--on-gap continue`.
        signed: the deployment has a snapshot key.
        narrow: the engine's bounds (queues, polls, chunks, batches) are so small that each is met.
        widenings: partitions that are added while it runs.
    """

    seed: int
    partitions: int
    workers: int
    pipeline: dict[str, Any]
    sends: tuple[Send, ...]
    endings: tuple[Ending, ...]
    faults: tuple[Fault, ...]
    slowness: float
    labour: float
    end_s: float
    gap_continue: bool = False
    signed: bool = False
    narrow: bool = False
    outputs: int = 0
    shards: int = 0
    widenings: tuple[Widening, ...] = ()

    @property
    def shard_count(self) -> int:
        return self.shards or self.partitions


MODELS = (
    ("binary", "StandardScaler() | LogisticRegression()"),
    ("binary", "GaussianNB()"),
    ("regression", "StandardScaler() | LinearRegression()"),
    ("binary", "tests.support.poisonous:learns_badly"),
    ("binary", "tests.support.poisonous:scores_badly"),
)
POISON = 0.06  # how often an event is one at which these two raise


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = Random(seed)
    partitions, workers = rng.choice((1, 1, 2, 2, 3)), rng.choice((1, 2, 2, 3))
    document = _pipeline(rng)
    declare(Random(f"{seed} history"), document)
    classes.declare(Random(f"{seed} classes"), document)
    recommend(Random(f"{seed} slates"), document)
    if "recommend" not in document:  # a slate takes no guard
        guarded.declare(Random(f"{seed} guard"), document)
    if "recommend" not in document:
        ahead.declare(Random(f"{seed} forecast"), document)
    budgeted.declare(Random(f"{seed} budget"), document)
    amended.declare(Random(f"{seed} amended"), document)
    lessons.declare(Random(f"{seed} lessons"), document)
    priced.declare(Random(f"{seed} priced"), document)
    length_s = rng.choice((1.0, 2.0, 4.0))
    sends, endings = _sends(rng, partitions, length_s, document)
    sends += lessons.burst(Random(f"{seed} burst"), document, partitions, length_s, BASE_MS)
    sends = amended.changed(Random(f"{seed} changed"), sends, document)
    delivery = document["delivery"]
    faults = tuple(_fault(rng, partitions, workers, length_s, delivery) for _ in range(_how_many(rng)))
    last_s = max((fault.at_s + fault.seconds for fault in faults if fault.at_s is not None), default=0.0)
    end_s = min(max(length_s, last_s) + 0.5, 40.0)
    sends += [  # the last word: after every fault, each partition still works
        one
        for partition in range(partitions)
        for one in _pair(rng, 100_000 + partition, partition, end_s + 0.2, document, label_s=end_s + 0.4)
    ]
    lost = any(fault.what == "retain" and fault.arg == 1 for fault in faults)
    slowness, labour = rng.choice((0.0, 0.05, 0.2, 0.5)), rng.choice((0.0, 0.0, 0.02, 0.1))
    gap_continue = lost and rng.random() < 0.6
    faults += _astray(Random(f"{seed} astray"), workers)
    signed = rng.random() < 0.3
    if document["task"] != "forecast":  # its models learn no single pairs, as those that are loaded here have
        sends += _loads(Random(f"{seed} loads"), partitions, length_s, document, signed=signed)
    decided = guarded.decisions(Random(f"{seed} decisions"), document, length_s)
    decided += lessons.decisions(Random(f"{seed} releases"), document, length_s)
    for at_s, command in decided:
        value = json.dumps(command)
        sends += [Send(at_s, "control", partition, value, _stamp(at_s)) for partition in range(partitions)]
    if signed:
        sends = [_signed(one, document["pipeline"]) for one in sends]
        sends += _intruders(Random(f"{seed} intruders"), partitions, length_s)
    narrow = rng.random() < 0.4
    shards, outputs = _share(Random(f"{seed} shards"), partitions)
    sends = _shared(Random(f"{seed} places"), sends, partitions, shards)
    widenings = _widenings(Random(f"{seed} added"), partitions, shards or partitions, length_s)
    sends = _moved(Random(f"{seed} moved"), sends, widenings, partitions)
    if "context" in document["event"]:
        sends = _keyed(seed, sends)
    if "recommend" in document:
        sends = _rewarded(seed, sends)
    if "label" not in document:
        sends = [one for one in sends if one.kind != "label"]
        widenings = tuple(wide for wide in widenings if wide.topic != "labels")
    return Scenario(
        seed=seed,
        partitions=partitions,
        workers=workers,
        pipeline=document,
        sends=tuple(sorted(sends, key=lambda one: one.at_s)),
        endings=endings,
        faults=faults,
        slowness=slowness,
        labour=labour,
        end_s=end_s,
        gap_continue=gap_continue,
        signed=signed,
        narrow=narrow,
        outputs=outputs,
        shards=shards,
        widenings=widenings,
    )


def _share(rng: Random, partitions: int) -> tuple[int, int]:
    """How many shards read the partitions, and how many partitions the outputs have; 0 for as many as the inputs."""
    shards = rng.choice((0, 0, 1, 1, 2))
    if shards >= partitions:
        return 0, 0
    return shards, rng.choice((0, 0, *range(max(shards, 1), 5))) if shards else 0


def _shared(rng: Random, sends: list[Send], partitions: int, shards: int) -> list[Send]:
    """One command for each shard; labels of one shard's events come to any of its partitions."""
    if not shards:
        return sends
    kept = [one for one in sends if one.kind != "control" or one.partition < shards]
    return [
        structs.replace(one, partition=rng.randrange(one.partition % shards, partitions, shards))
        if one.kind == "label" and not one.transaction
        else one
        for one in kept
    ]


def _widenings(rng: Random, partitions: int, shards: int, length_s: float) -> tuple[Widening, ...]:
    """Partitions that are added: often where one shard takes them up, now and then where several refuse them."""
    if rng.random() > (0.5 if shards == 1 else 0.12):
        return ()
    made = []
    for topic in rng.choice((("events",), ("labels",), ("events", "labels"), ("events", "labels", "scores"))):
        at_s, count = rng.random() * length_s, partitions
        for _ in range(rng.choice((1, 1, 2))):
            count += rng.choice((1, 2))
            made.append(Widening(round(at_s, 4), topic, count))  # type: ignore[arg-type]  # a literal
            at_s += rng.random()
    return tuple(made)


def _moved(rng: Random, sends: list[Send], widenings: tuple[Widening, ...], partitions: int) -> list[Send]:
    """Half of what comes after partitions were added goes to these."""
    if not widenings:
        return sends
    topics = {"event": "events", "label": "labels"}
    made = []
    for one in sends:
        counts = [wide.count for wide in widenings if wide.topic == topics.get(one.kind) and wide.at_s < one.at_s]
        if counts and not one.transaction and rng.random() < 0.5:
            made.append(structs.replace(one, partition=rng.randrange(partitions, max(counts))))
        else:
            made.append(one)
    return made


def _keyed(seed: int, sends: list[Send]) -> list[Send]:
    """Events with the fields that histories are kept by; one that comes again has the same."""
    return [
        structs.replace(one, value=with_keys(Random(f"{seed} keys {one.event_id}"), one.value))
        if one.kind == "event" and one.event_id >= 0 and one.value is not None
        else one
        for one in sends
    ]


def _rewarded(seed: int, sends: list[Send]) -> list[Send]:
    """Labels with an item; one that comes again may be for another."""
    return [
        structs.replace(one, value=with_item(Random(f"{seed} item {one.event_id} {one.at_s}"), one.value))
        if one.kind == "label" and one.event_id >= 0 and one.value is not None
        else one
        for one in sends
    ]


def _how_many(rng: Random) -> int:
    return rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8))


def _pipeline(rng: Random) -> dict[str, Any]:
    task, model = rng.choice(MODELS)
    wait = rng.choice(("1h", "1h", "1500ms", "400ms"))
    label: dict[str, Any] = {"id": "id", "value": "y", "wait": wait}
    if rng.random() < 0.3:
        label["early"] = rng.choice(("200ms", "900ms"))
    if rng.random() < 0.3:
        label["missing"] = {"assume": 0}
    if rng.random() < 0.2:
        label["pending_max"] = rng.choice((3, 10))
    if rng.random() < 0.2:
        label["early_max"] = rng.choice((1, 4))
    event: dict[str, Any] = {"id": "id", "features": {"x": "number", "z": {"type": "number", "missing": 0.5}}}
    if rng.random() < 0.5:
        event["time"] = "at"
    return {
        "pipeline": "sim",
        "task": task,
        "event": event,
        "label": label,
        "model": model,
        "metrics": ["MAE"] if task == "regression" else ["Accuracy"],
        "alerts": {"quiet": "1s", "ongoing": "2s", "within": "3s"},  # episodes begin, last and end within a run
        "drift": {"error": [], "score": _SWAP, "warmup_labels": 5, "cooldown_labels": 10, "warning_span": 20},
        "delivery": rng.choice(("exactly_once", "exactly_once", "exactly_once", "at_least_once")),
        "snapshot": {
            "every_records": rng.choice((1, 5, 20, 50, 1000)),
            "every": rng.choice(("200ms", "2s", "10m")),
        },
        "limits": {
            "slice_records_max": rng.choice((1, 3, 10, 50)),
            "slice_compute_max": rng.choice(("1ms", "50ms", "10s")),
        },
    }


# -- what users send


def _sends(
    rng: Random, partitions: int, length_s: float, document: dict[str, Any]
) -> tuple[list[Send], tuple[Ending, ...]]:
    sends: list[Send] = []
    count = rng.choice((10, 25, 40, 60))
    idle_from_s = rng.choice((0.4, 0.7, 1.0, 1.0)) * length_s
    backlog = rng.random() < 0.3  # all of it is there before the workers start
    for event_id in range(count):
        at_s = 0.0 if backlog else rng.random() * idle_from_s
        partition = rng.randrange(partitions)
        sends += _pair(rng, event_id, partition, at_s, document)
    for _ in range(rng.choice((0, 1, 3))):
        at_s, partition = rng.random() * length_s, rng.randrange(partitions)
        sends.append(_bad(rng, at_s, partition))
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        command = rng.choice(("freeze", "unfreeze", "reset", "dance"))
        value = json.dumps({"command": command})
        at_s = rng.random() * length_s
        for partition in range(partitions):
            sends.append(Send(at_s, "control", partition, value, _stamp(at_s), good=command != "dance"))
    return _transactions(rng, sends, length_s)


def _loads(rng: Random, partitions: int, length_s: float, document: dict[str, Any], *, signed: bool) -> list[Send]:
    """Operators load models, now and then two at once; the parts of one load are a little apart."""
    sends = []
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
        at_s = rng.choice((0.0, rng.random() * length_s))
        gap_s = rng.choice((0.0, 0.01, 0.2))
        values = commands(rng, document, rng.choice(KINDS), _stamp(at_s), signed=signed)
        for number, value in enumerate(values):
            part_s = at_s + number * gap_s
            sends += [Send(part_s, "control", partition, value, _stamp(part_s)) for partition in range(partitions)]
    return sends


def _signed(send: Send, pipeline: str) -> Send:
    if send.kind != "control" or not send.good or send.value is None:
        return send
    return structs.replace(send, value=signed_command(send.value, send.stamp_ms, pipeline, send.at_s))


def _intruders(rng: Random, partitions: int, length_s: float) -> list[Send]:
    """Commands of one without the key."""
    sends = []
    for _ in range(rng.choice((0, 0, 1, 2))):
        at_s, value = rng.random() * length_s, json.dumps({"command": "freeze", "by": "an intruder"})
        sends += [Send(at_s, "control", partition, value, _stamp(at_s), good=False) for partition in range(partitions)]
    return sends


def _stamp(at_s: float) -> int:
    return BASE_MS + int(at_s * 1000)


def _pair(
    rng: Random, event_id: int, partition: int, at_s: float, document: dict[str, Any], label_s: float | None = None
) -> list[Send]:
    """An event and what comes of its label: early, late, twice, never."""
    timed = "time" in document["event"]
    x = round(rng.gauss(0, 1), 3)
    value: dict[str, Any] = {"id": event_id, "x": x}
    if rng.random() < 0.8:
        value["z"] = round(rng.random(), 3)
    stamp_ms = _stamp(at_s)
    if timed:
        value["at"] = stamp_ms + (rng.choice((-3000, -200, 0, 0, 0, 50, 10 * HOUR_MS)) if label_s is None else 0)
    elif rng.random() < 0.1:
        stamp_ms -= rng.randrange(3_000)
    good = True
    if label_s is None and "poisonous" in document["model"] and rng.random() < POISON:
        value["x"] = BAD
        good = "scores" not in document["model"]  # what cannot be scored is rejected
    sends = [Send(at_s, "event", partition, json.dumps(value), stamp_ms, event_id, good)]
    if label_s is None and rng.random() < 0.08:
        again_s = at_s + rng.random()
        sends.append(Send(again_s, "event", partition, json.dumps(value), _stamp(again_s), event_id, good))
    if label_s is None:
        delay_s = rng.choice((-0.3, -0.05, 0.0, 0.0, 0.01, 0.1, 0.3, 0.5, 1.0, 2.0, None))
        if delay_s is None:
            return sends
        label_s = max(0.0, at_s + delay_s * (0.5 + rng.random()))
    noise = rng.gauss(0, 0.3 if document["task"] == "regression" else 0.5)
    y: float = round(x * 2 + noise, 3) if document["task"] == "regression" else int(x + noise > 0)
    if document["task"] == "multiclass":
        y = classes.truth(x + noise)
    about = event_id if rng.random() < 0.96 or event_id >= 100_000 else 50_000 + event_id
    sends.append(Send(label_s, "label", partition, json.dumps({"id": about, "y": y}), _stamp(label_s), about))
    if rng.random() < 0.08:
        again_s = label_s + rng.random()
        text = json.dumps({"id": about, "y": y})
        sends.append(Send(again_s, "label", partition, text, _stamp(again_s), about))
    return sends


def _bad(rng: Random, at_s: float, partition: int) -> Send:
    kind: Literal["event", "label"] = rng.choice(("event", "label"))
    values: tuple[str | None, ...] = (
        None, "", "{", "[]", '{"id": 1}', '{"id": 7, "x": "text"}', '{"id": 7, "x": 1e16, "at": 1}', '{"y": 1}', "\x80",
    )  # fmt: skip
    return Send(at_s, kind, partition, rng.choice(values), _stamp(at_s), good=False)


def _transactions(rng: Random, sends: list[Send], length_s: float) -> tuple[list[Send], tuple[Ending, ...]]:
    """Some users write in transactions of their own, and some of these are aborted."""
    endings = []
    for number in range(1, rng.choice((1, 1, 1, 2, 4))):
        index = rng.randrange(len(sends))
        first = sends[index]
        end_s = min(first.at_s + rng.random() * 2, length_s)
        for place, one in enumerate(sends):
            same = (one.kind, one.partition) == (first.kind, first.partition) and not one.transaction
            if same and first.at_s <= one.at_s <= end_s and (place == index or rng.random() < 0.3):
                sends[place] = Send(
                    one.at_s, one.kind, one.partition, one.value, one.stamp_ms, one.event_id, one.good, number
                )
        endings.append(Ending(number, end_s, rng.random() < 0.5))
    return sends, tuple(endings)


# -- what goes wrong


def _astray(rng: Random, workers: int) -> tuple[Fault, ...]:
    """Requests that come late, most of them commits; drawn apart, so the rest of a seed is as it was."""
    return tuple(
        Fault(
            "astray",
            worker=rng.randrange(workers),
            step=rng.choice(("commit", "commit", "commit", "open", "batch", "committed")),
            nth=rng.choice((1, 2, 3, 5, 8, 13, 21, 40)),
            seconds=round(rng.choice((0.001, 0.02, 0.2, 2.0)) * (0.5 + rng.random()), 4),
            arg=rng.choice((0, 1, 1, 2, 3, 4)),
        )
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))
    )


def _fault(rng: Random, partitions: int, workers: int, length_s: float, delivery: str) -> Fault:
    kinds: list[What] = [
        "crash", "crash", "crash", "pause", "pause", "stop", "deploy", "join", "evict", "evict", "lose", "lose", "lose",
        "slow", "slow", "refuse", "fence", "away", "snapshot", "snapshot", "retain",
    ]  # fmt: skip
    if rng.random() < 0.4:
        kinds.append("reset")
    if delivery == "at_least_once":
        kinds.append("stray")
    what = rng.choice(kinds)
    worker, partition = rng.randrange(workers), rng.randrange(partitions)
    at_s: float | None = round(rng.random() * length_s, 4)
    step, nth, arg = "", 0, 0
    seconds = round(rng.choice((0.01, 0.1, 0.5, 1.5)) * (0.5 + rng.random()), 4)
    if what in ("lose", "slow", "refuse") or (what in ("crash", "pause", "evict", "fence") and rng.random() < 0.7):
        at_s = None
        step = "batch" if what == "refuse" else rng.choice(("commit", "committed", "batch", "appended", *STEPS))
        nth = rng.choice((1, 2, 3, 5, 8, 13, 21, 40))
    match what:
        case "crash":
            arg = rng.randrange(3)
        case "evict":
            seconds = rng.choice((0.0, 0.05, 0.5, 2.0))
        case "pause":
            seconds = round(rng.choice((0.05, 0.5, 2.0, 5.0, 8.0)) * (0.5 + rng.random()), 4)
        case "slow":
            seconds = round(rng.choice((0.05, 0.3, 1.0, 4.0, 16.0)) * (0.5 + rng.random()), 4)
        case "deploy":
            arg = rng.randrange(2)
        case "away":
            arg = rng.randrange(2)
            seconds = round(rng.choice((0.2, 1.0, 5.0, 18.0)) * (0.5 + rng.random()), 4)
        case "snapshot":
            arg = rng.randrange(10)
        case "retain":
            arg = int(rng.random() < 0.25)
    return Fault(what, at_s, worker, step, nth, seconds, partition, arg)
