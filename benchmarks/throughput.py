"""Pairs a second, and CPU time a pair, of Driftline and of what else one could use, by model, on a real Kafka.

A table of subjects times models (`benchmarks.model`). Each round runs all subjects on the same records, in turn first;
ratios are taken within a round, and the median over the rounds is what counts. Whoever is not installed is left out,
and the report says so. Of each run it is checked that every event has one readable score, that every pair was learned,
and that the scores are as good as those of River alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from statistics import median
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks import case, machine
from benchmarks.model import MODELS, Made, Model, Scores
from driftline.config import Settings, load_settings
from driftline.core.pipeline import Pipeline
from driftline.devbroker import kafka
from driftline.kafka import topic

TIMEOUT_S: Final = 300.0
Topics = tuple[str, str | None]


@dataclass(frozen=True)
class Subject:
    """Who is measured.

    Args:
        module: its program in `benchmarks.contender`.
        needs: the package that it takes.
        promises: what becomes of scores when it is killed.
        asks: its own word for that.
        guarded: it checks its predictions by five rungs of a guard.
    """

    title: str
    module: str
    needs: str
    promises: str
    asks: str = ""
    guarded: bool = False

    @property
    def installed(self) -> bool:
        return find_spec(self.needs) is not None


OURS: Final = "driftline"
GUARDED: Final = "driftline-guarded"
ALONE: Final = "river"
SUBJECTS: Final[dict[str, Subject]] = {
    OURS: Subject("Driftline, exactly once", "driftline", "driftline", "exactly once", "exactly_once"),
    GUARDED: Subject(
        "Driftline, exactly once, with five rungs",
        "driftline",
        "driftline",
        "exactly once",
        "exactly_once",
        guarded=True,
    ),
    "driftline-alo": Subject("Driftline, at least once", "driftline", "driftline", "at least once", "at_least_once"),
    "aiokafka": Subject("a bare aiokafka loop", "bare", "aiokafka", "nothing"),
    "confluent": Subject("a bare confluent-kafka loop", "confluent", "confluent_kafka", "nothing"),
    "bytewax": Subject("Bytewax", "flow", "bytewax", "nothing, without a recovery store"),
    "quix": Subject("Quix Streams, at least once", "quix", "quixstreams", "at least once", "at-least-once"),
    "quix-eos": Subject("Quix Streams, exactly once", "quix", "quixstreams", "exactly once", "exactly-once"),
    "faust": Subject("Faust agents", "agent", "faust", "at least once"),
    ALONE: Subject("River alone, without Kafka", "alone", "river", "nothing"),
}


@dataclass(frozen=True)
class Run:
    """One subject with one model in one round.

    Args:
        rate: pairs a second, by the wall clock.
        cpu_us: CPU time of its process a pair, in microseconds: less moved by other load on the machine.
        held: share of the time in which it was ready to run and something else had its core; much of it means that
            the machine was not quiet, and the rate says little.
        quality: of its scores, as they were served; see `benchmarks.model`. Loops that read two topics in whatever
            order they come serve what a model says that has learned more or less than it could have.
        fitted: quality of the model in the end; Driftline's is not asked for.
    """

    model: str
    subject: str
    round: int
    pairs: int
    rate: float
    cpu_us: float
    held: float
    quality: float
    fitted: float | None


@dataclass(frozen=True)
class Report:
    runs: list[Run]
    setting: dict[str, Any]
    skipped: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "guarded": {one.model: asdict(one) for one in guarded(self)}}


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Args:
        pairs: events with labels of the benchmark's own model; others get a share (`Model.share`).
        minutes: no round begins that would not end within so long, the first apart.
    """

    rounds: int
    pairs: int
    minutes: float = 30.0
    models: Sequence[str] = tuple(MODELS)
    subjects: Sequence[str] = tuple(SUBJECTS)
    shards: int = case.SHARDS


def measure(asked: Asked, say: Callable[[str], None]) -> Report:
    """Run it all on a Kafka of its own.

    Raises:
        RuntimeError: a subject failed or did not score and learn all, or Driftline scored worse than River.
    """
    core, broker_core = machine.split_cores()
    subjects = [name for name in asked.subjects if SUBJECTS[name].installed]
    skipped = [
        f"{SUBJECTS[name].title} is left out: {SUBJECTS[name].needs} is not installed (make bench installs it)"
        for name in asked.subjects
        if name not in subjects
    ]
    for sentence in skipped:
        say(sentence)
    say("starting Kafka")
    begun_s, runs = time.monotonic(), list[Run]()
    with kafka.start(partitions=case.PARTITIONS) as broker:
        bench = Bench(load_settings({}, {"bootstrap": broker.bootstrap}), core, asked.shards)
        inputs = {name: bench.produce(name, MODELS[name].pairs(asked.pairs), say) for name in asked.models}
        for number in range(1, asked.rounds + 1):
            round_s = time.monotonic()
            for name in asked.models:
                fitting = [one for one in subjects if MODELS[name].guardable or not SUBJECTS[one].guarded]
                for place in range(len(fitting)):
                    run = bench.run(inputs[name], fitting[(place + number - 1) % len(fitting)], number)
                    say(f"round {number}: {name}, {SUBJECTS[run.subject].title}: {run.rate:,.0f} pairs/s")
                    runs.append(run)
            now_s = time.monotonic()
            if now_s - begun_s + (now_s - round_s) > asked.minutes * 60:
                break
    skipped += unlike(runs)
    setting = {
        "versions": machine.versions(),
        "cores": [core, broker_core],
        "rounds": max(run.round for run in runs),
        "partitions": case.PARTITIONS,
        "shards": asked.shards,
        "pairs": {name: MODELS[name].pairs(asked.pairs) for name in asked.models},
        "timed": "from the first record in hand to all pairs learned and all scores acknowledged",
    }
    return Report(runs, setting, skipped)


def unlike(runs: Sequence[Run]) -> list[str]:
    """Who did something else, as sentences: what is served by Driftline, and what models of loops are in the end.

    Loops learn in whatever order they read the two topics, which models of few pairs can show.

    Raises:
        RuntimeError: Driftline is worse or better than River alone by more than the order of learning can explain.
    """
    found = []
    for run in runs:
        alone = next((one for one in runs if (one.model, one.subject) == (run.model, ALONE)), None)
        if alone is None:
            continue
        own, expected = (run.quality, alone.quality) if run.fitted is None else (run.fitted, alone.fitted or 0.0)
        if abs(own - expected) <= MODELS[run.model].within:
            continue
        text = f"with {run.model} its quality is {own:.3f}, and that of River alone {expected:.3f}"
        if run.fitted is None:
            raise RuntimeError(f"{run.subject} does not do the same work: {text}")
        found.append(f"{SUBJECTS[run.subject].title} did not do the same work in round {run.round}: {text}.")
    return found


@dataclass(frozen=True)
class Input:
    """Records of a model, as they lie in Kafka."""

    name: str
    model: Model
    topics: Topics
    pairs: int
    made: Sequence[Made]


class Bench:
    """Runs subjects on one Kafka.

    Args:
        core: theirs; None where cores cannot be had apart.
    """

    def __init__(self, settings: Settings, core: int | None, shards: int) -> None:
        self.settings = settings
        self._core, self._shards, self._stamp = core, shards, int(time.time())
        self._count = 0

    def produce(self, name: str, pairs: int, say: Callable[[str], None]) -> Input:
        """Write the records of a model."""
        model = MODELS[name]
        chosen = model.pipeline(f"input-{name}-{self._stamp}")
        say(f"producing {pairs:,} events for {name}")
        made = list(model.records(pairs))
        self._create(chosen)
        asyncio.run(_send(self.settings, chosen, made))
        labels = chosen.topics.labels if chosen.label is not None else None
        return Input(name, model, (chosen.topics.events, labels), pairs, made)

    def run(self, given: Input, subject: str, number: int) -> Run:
        """One subject on these records."""
        found, scores = self.timed(given, subject)
        quality = found["quality"] if subject == ALONE else given.model.quality(scores, given.made)
        wall_s, cpu_us = found["wall_s"], found["cpu_s"] / given.pairs * 1e6
        held = found["held_s"] / wall_s
        return Run(
            given.name, subject, number, given.pairs, given.pairs / wall_s, cpu_us, held, quality, found.get("fitted")
        )

    def timed(self, given: Input, subject: str, profile: str | None = None) -> tuple[dict[str, Any], Scores]:
        """Run one subject, and see for ourselves that it scored and learned all.

        Args:
            profile: a file for the profile of Driftline.

        Returns:
            What it reports, and the scores that a read_committed reader sees.
        """
        self._count += 1
        name, with_guard = f"{subject}-{given.name}-{self._stamp}-{self._count}", SUBJECTS[subject].guarded
        chosen = given.model.pipeline(name, given.topics, guarded=with_guard)
        self._create(chosen)
        scored = given.pairs + given.model.closing
        asked = {
            "bootstrap": self.settings.bootstrap,
            "name": chosen.name,
            "model": given.name,
            "events": given.topics[0],
            "labels": given.topics[1],
            "scores": chosen.topics.scores,
            "delivery": SUBJECTS[subject].asks,
            "guarded": with_guard,
            "pairs": given.pairs,
            "scored": scored,
            "learned": given.pairs,
            "partitions": case.PARTITIONS,
            "core": self._core,
            "profile": profile,
        }
        found = {**machine.run(SUBJECTS[subject].module, asked, TIMEOUT_S), "name": chosen.name}
        scores = {} if subject == ALONE else asyncio.run(_scores(self.settings, chosen.topics.scores))
        readable = scored if subject == ALONE else len(scores)
        if (found["scored"], found["learned"], readable) != (scored, given.pairs, scored):
            raise RuntimeError(
                f"{subject} with {given.name} scored {found['scored']}, learned {found['learned']} and published "
                f"scores of {readable} events, not {scored}, {given.pairs} and {scored}"
            )
        return found, scores

    def _create(self, chosen: Pipeline) -> None:
        asyncio.run(
            topic.create(chosen, self.settings, partitions=case.PARTITIONS, shards=self._shards, retention_ms=-1)
        )


async def _send(settings: Settings, chosen: Pipeline, made: Sequence[Made]) -> None:
    """Write records, each topic in order of time."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, acks="all", linger_ms=5)
    await producer.start()
    try:
        sent = []
        for one in made:
            name = (chosen.topics.labels or "") if one.is_label else chosen.topics.events
            value, key = orjson.dumps(one.document), b"%d" % one.number
            sent.append(await producer.send(name, value, key=key, partition=one.partition, timestamp_ms=one.time_ms))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _scores(settings: Settings, scores: str) -> Scores:
    """The scores that a read_committed reader sees, by event."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        places = [TopicPartition(scores, partition) for partition in range(case.PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        seen: dict[int, Any] = {}
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                seen.update(
                    (document["event_id"], document) for document in map(orjson.loads, (r.value for r in records))
                )
        return seen
    finally:
        await consumer.stop()


# -- for people


@dataclass(frozen=True)
class Row:
    """A subject with one model, over all rounds.

    Args:
        rate: pairs a second; cpu_us: CPU time a pair: median, least, most.
        times: Driftline's pairs a second over theirs, within rounds: median, least, most.
        by_cpu: the same by CPU time.
    """

    subject: str
    rate: tuple[float, float, float]
    cpu_us: tuple[float, float, float]
    times: tuple[float, float, float] | None
    by_cpu: float | None
    quality: float


def rows(report: Report, model: str) -> list[Row]:
    """What a model's runs come to, by subject."""
    runs = [run for run in report.runs if run.model == model]
    ours = {run.round: run for run in runs if run.subject == OURS}
    found = []
    for subject in dict.fromkeys(
        run.subject for run in sorted(runs, key=lambda run: list(SUBJECTS).index(run.subject))
    ):
        theirs = [run for run in runs if run.subject == subject]
        compared = subject != OURS and ours
        times = [ours[run.round].rate / run.rate for run in theirs] if compared else []
        by_cpu = [run.cpu_us / ours[run.round].cpu_us for run in theirs] if compared else []
        found.append(
            Row(
                subject,
                _middle([run.rate for run in theirs]),
                _middle([run.cpu_us for run in theirs]),
                _middle(times) if times else None,
                median(by_cpu) if by_cpu else None,
                median(run.quality for run in theirs),
            )
        )
    return found


def _middle(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


@dataclass(frozen=True)
class Guarded:
    """What a guard leaves of Driftline's rate with one model.

    Args:
        rate: pairs a second with five rungs over those without, within rounds: median, least, most.
        by_cpu: the same by CPU time.
    """

    model: str
    rate: tuple[float, float, float]
    by_cpu: float


def guarded(report: Report) -> list[Guarded]:
    """Of each model that was run with and without."""
    found = []
    for model in dict.fromkeys(run.model for run in report.runs):
        with_guard, without = (
            {run.round: run for run in report.runs if (run.model, run.subject) == (model, subject)}
            for subject in (GUARDED, OURS)
        )
        rounds = with_guard.keys() & without.keys()
        if rounds:
            rates = [with_guard[number].rate / without[number].rate for number in sorted(rounds)]
            by_cpu = median(without[number].cpu_us / with_guard[number].cpu_us for number in sorted(rounds))
            found.append(Guarded(model, _middle(rates), by_cpu))
    return found


def markdown(report: Report) -> str:
    """All of it as tables, one for each model."""
    parts = []
    for model in dict.fromkeys(run.model for run in report.runs):
        pairs = report.setting["pairs"][model]
        parts.append(
            f"**{model}**: {MODELS[model].title}; {pairs:,} pairs\n\n"
            "| | CPU a pair, us | pairs a second | Driftline's rate over it | by CPU time | quality as served |\n"
            "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(map(_line, rows(report, model)))
        )
    kept = [
        f"With five rungs of a guard, {one.model} keeps {_with_spread(one.rate, '.2f')} of the rate without "
        f"({one.by_cpu:.2f} by CPU time)."
        for one in guarded(report)
    ]
    return "\n\n".join([*parts, *kept, *report.skipped]) + "\n"


def _line(row: Row) -> str:
    cells = (
        SUBJECTS[row.subject].title,
        _with_spread(row.cpu_us, ",.1f"),
        _with_spread(row.rate, ",.0f"),
        "" if row.times is None else _with_spread(row.times, ".2f"),
        "" if row.by_cpu is None else f"{row.by_cpu:.2f}",
        f"{row.quality:.3f}",
    )
    return f"| {' | '.join(cells)} |"


def _with_spread(figures: tuple[float, float, float], form: str) -> str:
    """The median, and the least and the greatest where there are several rounds."""
    middle, least, most = (format(one, form) for one in figures)
    return middle if least == most else f"{middle} ({least} - {most})"
