"""What `driftline status` says once Kafka has answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from driftline.codec.inputs import Inputs, layout_of
from driftline.config import Settings
from driftline.core.error import TopicError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name
from driftline.core.timestamp import written
from driftline.core.wording import escaped
from driftline.engine.fullness import FULL, full_text
from driftline.kafka import topic_rule
from driftline.kafka.broker import KafkaBroker
from driftline.operate.kpi import kpi_lines
from driftline.operate.status import ShardStatus, by_topic, look
from driftline.transport.obstacle import wider_text


async def read(
    pipeline: Pipeline, settings: Settings, there: Mapping[str, int], away: set[tuple[str, int]], patience_s: float
) -> Sequence[ShardStatus]:
    """Every shard.

    Args:
        there: partitions by topic.
        away: partitions that no broker answers for.
    """
    names = set(topic_rule.names(pipeline).values())
    if missing := sorted(names - set(there)):
        raise TopicError(f"missing topics: {', '.join(missing)}; create them with `driftline topics create -p FILE`")
    layout = layout_of(pipeline, {name: there[name] for name in names})
    shards = await look(KafkaBroker(pipeline, settings), pipeline, layout, away, patience_s)
    return [_with_unread(one, pipeline, layout) for one in shards]


def _with_unread(shard: ShardStatus, pipeline: Pipeline, layout: Layout) -> ShardStatus:
    """A shard that has begun, with what there is to say of partitions that it does not read."""
    if not shard.epoch:
        return shard
    there = layout.places(Inputs(pipeline).topics, shard.partition)
    unread = [place for place in there if input_name(*place, shard.partition) not in shard.positions]
    if not unread:
        return shard
    wider = {place.topic: layout.counts[place.topic] for place in unread}
    partitions = min(place.partition for place in unread) // layout.shards * layout.shards
    return replace(shard, troubles=(wider_text(wider, partitions), *shard.troubles))


def draw(console: Console, pipeline: Pipeline, shards: Sequence[ShardStatus]) -> None:
    """Print it for people."""
    console.print(*tables(pipeline, shards))
    if pipeline.label is not None:
        console.print(labels_table(shards))
    for line in remarks(shards, pipeline.topics.control):
        console.print(escaped(line), markup=False, highlight=False, soft_wrap=True)


def tables(pipeline: Pipeline, shards: Sequence[ShardStatus]) -> tuple[Table, Table]:
    """Positions and metrics, apart: side by side they are wider than most terminals."""
    inputs = [name for name in (pipeline.topics.events, pipeline.topics.labels) if name is not None]
    where = _headed(("shard", "input", "read", "lag", "pending", "learned", "time (UTC)"), words=("input",))
    where.title = f"{pipeline.name} ({pipeline.task}, {pipeline.delivery})"
    where.caption = "read and lag are offsets; ?: unknown"
    measured = _headed(("shard", "model", "metric", "total", "window"), words=("metric",))
    measured.caption = "model: its generation"
    for shard in shards:
        note = shard.note or {}
        total, window = note.get("metrics", {}), note.get("window_metrics", {})
        names = [name for name in total if name != "label_count"]
        where.add_row(
            str(shard.partition),
            "\n".join(("events", "labels")[: len(inputs)]),
            "\n".join(_number(by_topic(shard.positions).get(name)) for name in inputs),
            "\n".join(_number(by_topic(shard.lag).get(name)) for name in inputs),
            _number(note.get("pending", 0) if shard.positions else None),
            _number(note.get("counts", {}).get("learned", 0) if shard.positions else None),
            _time(note.get("watermark_ms")),
        )
        measured.add_row(
            str(shard.partition),
            _generation(note),
            Text("\n".join(map(escaped, names))),  # not read as Rich's markup
            "\n".join(_shown(total[name]) for name in names),
            "\n".join(_shown(window.get(name)) for name in names),
        )
    return where, measured


def labels_table(shards: Sequence[ShardStatus]) -> Table:
    """What became of labels, by shard and in total."""
    names = ("early", "joined", "orphan", "late", "duplicate", "rejected", "expired")
    table = _headed(("shard", *names, "share"), words=())
    table.caption = (
        "early: held now; expired: events whose wait ended without one; share: labelled, of events whose wait is over"
    )
    total = dict.fromkeys(names, 0)
    for shard in shards:
        note = shard.note or {}
        counts = note.get("labels", {})
        for name in names:
            total[name] += counts.get(name, 0)
        table.add_row(
            str(shard.partition), *(f"{counts.get(name, 0):,}" for name in names), _shown(note.get("coverage"))
        )
    if len(shards) > 1:
        table.add_row("all", *(f"{count:,}" for count in total.values()), "")
    return table


def _held(by: str, held: Mapping[str, int]) -> str:
    """The keys whose past a shard keeps, and what of them it could not use."""
    count = held.get
    return (
        f"history by {by}: {count('keys', 0):,} of at most {count('keys_max', 0):,} keys ({count('evicted', 0):,} "
        f"evicted), {count('late', 0):,} events or labels too late for a window, {count('without_key', 0):,} events "
        "without a key"
    )


def _forecasts(forecast: Mapping[str, Any]) -> str:
    """How many series, and how good their forecasts were: over all horizons, the nearest and the furthest."""
    series = f"{forecast['series']:,} series" + (f" ({forecast['evicted']:,} let go)" if forecast["evicted"] else "")
    if not forecast["judged"]:
        return f"{series}; no forecast has met its truth yet"
    parts = []
    for name, naive in (("MAE", "NaiveMAE"), ("MASE", "NaiveMASE"), ("Coverage", None)):
        each = [_shown(value) for value in forecast["by_horizon"][name]]
        beside = f", seasonal naive {_shown(forecast['metrics'][naive])}" if naive is not None else ""
        spread = f"; 1 step ahead {each[0]}, {len(each)} steps {each[-1]}" if len(each) > 1 else ""
        parts.append(f"{name} {_shown(forecast['metrics'][name])} ({beside.removeprefix(', ')}{spread})")
    return f"{series}; {forecast['judged']:,} forecasts judged: {', '.join(parts)}".replace("(; ", "(")


def _guarded(guard: Mapping[str, Any]) -> str:
    """How often each rung of the guard tripped, and what was served instead."""

    def listed(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items())

    instead = f"; served instead: {listed(guard['instead'])}" if guard["instead"] else ""
    return f"guard: {listed(guard['tripped'])}{instead}"


def _second(second: Mapping[str, Any]) -> str:
    """How often the guard's second model was served, and how far off it is."""
    failed = f", failed {second['failed']:,} times" if second["failed"] else ""
    if second["error"] is None:
        return f"second model {second['version']}: served {second['served']:,} times{failed}"
    errors = f"mean error {_shown(second['error'])}, of the first one {_shown(second['first_error'])}"
    return f"second model {second['version']}: served {second['served']:,} times{failed}; {errors}"


def _kept_back(note: Mapping[str, Any]) -> Iterator[str]:
    """Events that were not scored, and predictions that were not served as they were made."""
    if rejected := note.get("rejected", {}).get("events"):
        yield f"{rejected:,} events rejected; `driftline tail rejected` shows them"
    if (guard := note.get("guard")) is None:
        return
    held = guard.get("held", 0)
    yield f"{held:,} held for review" + ("; see `driftline review list -p FILE`" if held else "")
    if guard["tripped"]:
        yield _guarded(guard)
    if (second := guard.get("second_model")) is not None:
        yield _second(second)


def _learning(shard: int, learning: Mapping[str, Any]) -> Iterator[str]:
    """What is not learned, and what to do about it."""
    if learning.get("stopped"):
        yield f"shard {shard} does not learn while an alert of learning.freeze_on is open"
    if held := learning.get("held"):
        until = "a decision" if (at_ms := learning.get("deadline_ms")) is None else written(at_ms)
        yield f"shard {shard}: {held:,} labels are held until {until}; `driftline control release` or `drop` decides"
    if counts := learning.get("quarantine"):
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        yield f"shard {shard}: suspect labels: {listed}{'; more come now' if learning.get('suspect') else ''}"


def remarks(shards: Sequence[ShardStatus], control: str) -> Iterator[str]:
    """What is not as usual: learning that an operator holds, commands that no worker has read, and open alerts by the
    name to answer them by."""
    yield from dict.fromkeys(trouble for shard in shards for trouble in shard.troubles)
    for shard in shards:
        note = shard.note or {}
        if note.get("frozen"):
            yield f"shard {shard.partition} is frozen: it does not learn until `driftline control unfreeze`"
        if stopped := note.get("stopped_detectors"):
            yield (
                f"shard {shard.partition}: these detectors raised and find nothing any more: {', '.join(stopped)}. "
                "The state was not as it was written: restore one of yours, or change their settings in the file"
            )
        if note.get("known") == 0 and note.get("counts", {}).get("scored"):
            yield f"shard {shard.partition}: the model is untrained, so its predictions mean nothing yet"
        if latest := [_command(one) for one in note.get("commands", ())]:
            yield f"shard {shard.partition}: latest commands: {', '.join(latest)}"
        if forecast := note.get("forecast"):
            yield f"shard {shard.partition}: {_forecasts(forecast)}"
        for name, kpi in note.get("kpi", {}).items():
            yield from (f"shard {shard.partition}: {line}" for line in kpi_lines(name, kpi))
        yield from (f"shard {shard.partition}: {line}" for line in _kept_back(note))
        if learning := note.get("learning"):
            yield from _learning(shard.partition, learning)
        if (full := note.get("full")) is not None:
            full = min(max(full, 0.0), 1.0)  # whoever can write the journal of a deployment without a key can say more
            yield full_text(shard.partition, full) if full >= FULL else f"shard {shard.partition} is {full:.0%} full"
        for by, held in note.get("history", {}).items():
            yield f"shard {shard.partition}: {_held(by, held)}"
        if waiting := shard.lag.get(control, 0):
            yield f"shard {shard.partition}: {waiting:,} records in {control} are still unread; is a worker running?"
        if unanswered := note.get("unanswered", 0):
            labels = note.get("metrics", {}).get("label_count", 0)
            yield (
                f"shard {shard.partition}: {unanswered:,} of {labels:,} labels belong to events without a "
                "prediction; metrics ignore them"
            )
        passed = [
            f"{count:,} {name.removeprefix('passed_').replace('_', ' ')}"
            for name, count in sorted(note.get("counts", {}).items())
            if name.startswith("passed_")
        ]
        if passed:
            yield f"shard {shard.partition} skipped: {', '.join(passed)}"
        for episode in note.get("episodes", ()):
            yield f"open alert: {episode}" + (" (acknowledged)" if episode in note.get("acknowledged", ()) else "")


def _command(taken: Mapping[str, Any]) -> str:
    """A command that a shard has taken, by whom and when it was sent."""
    by = f" by {taken['by']}" if taken.get("by") else ""
    return f"{taken['command']}{by} ({written(taken['time_ms'], '%Y-%m-%d %H:%M:%S')})"


def _headed(names: Sequence[str], *, words: Sequence[str]) -> Table:
    """A table with these columns, of which `words` begin at the left."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, justify="left" if name in words else "right", overflow="fold")
    return table


def _generation(note: Mapping[str, Any]) -> str:
    """The model's generation; below it the parts of the next one that have come, of how many."""
    generation = escape(escaped(str(note.get("version", "-")).partition(".")[0]))
    loading = note.get("loading")
    return f"{generation}\n+{loading[0]}/{loading[1]}" if loading else generation


def _number(number: int | None) -> str:
    """A number, of records or offsets; none where it could not be learned."""
    return "?" if number is None else f"{number:,}"


def _time(watermark_ms: int | None) -> str:
    if watermark_ms is None:
        return "-"
    return written(watermark_ms, "%Y-%m-%d\n%H:%M:%S")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
