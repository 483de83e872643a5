"""`driftline check`: is this pipeline file valid, what resources does it need, and is it deterministic?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from driftline.author import capacity, encoding, scale
from driftline.author.need import OUTAGE_MS, Need, need
from driftline.cli.command.history import Files
from driftline.cli.echo import echo, show
from driftline.cli.history import look_through
from driftline.cli.setting import pipeline_of, settings_of
from driftline.cli.trial import prove, try_building
from driftline.config import dump_pipeline
from driftline.core.duration import format_duration
from driftline.core.error import PipelineError
from driftline.core.pipeline import HistoryFeature, Pipeline, pipeline_schema

PART = 1  # exit code: rows of the data cannot be used


def check(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    rate: float | None,
    no_proof: bool,
    everything: bool,
    schema: bool,
    live: bool,
    history: Files,
    bootstrap: str | None,
    as_json: bool,
) -> None:
    """What `driftline check` does."""
    if schema:
        echo(json.dumps(pipeline_schema(), indent=2))
        return
    settings = settings_of(bootstrap=bootstrap)
    if live:
        from driftline.cli.live import against_live  # here, as other checks need no Kafka

        against_live(pipeline_of(settings, pipeline_file, overrides), settings, as_json=as_json)
        return
    path = pipeline_file or settings.pipeline
    looked = None
    try:
        proof = None
        if path is not None and no_proof:
            try_building(path, overrides)
        elif path is not None:
            proof = prove(path, overrides)
        pipeline = pipeline_of(settings, pipeline_file, overrides)
    except PipelineError as error:
        if as_json:
            problems = [msgspec.to_builtins(problem, enc_hook=str) for problem in error.problems]
            show({"problems": problems}, tuple, as_json=True)
        raise
    if history.given:
        looked = look_through(history, pipeline)
    warnings = [] if proof is None else [*_doubts(proof), *scale.warnings(pipeline)]
    warnings += [*encoding.warnings(pipeline), *capacity.divided(pipeline)]
    estimate = need(pipeline, rate)
    report: dict[str, Any] = {"pipeline": pipeline.resolved(), "needs": estimate}
    if proof is not None:
        report |= {"proof": proof}
    if proof is not None or warnings:
        report["warnings"] = warnings
    if looked is not None:
        report["data"] = looked
    shard_rate = None if proof is None else proof["events_per_s"]
    lines = [*_data(looked), *_verdict(pipeline, proof, warnings), "", *_needs(estimate, pipeline, shard_rate)]
    if everything and not as_json:
        echo("".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n" + dump_pipeline(pipeline), nl=False)
    else:
        show(report, lambda: [*lines, "", "To see every setting with its default, add --all"], as_json=as_json)
    _end(looked)


def _data(looked: dict[str, Any] | None) -> Iterator[str]:
    """What the data is to this pipeline."""
    if looked is None:
        return
    counts = f"{looked['bad']:,} unusable, {looked['unlabelled']:,} without a label, {looked['rejected']:,} rejected"
    yield f"Data: {looked['rows']:,} usable rows, {counts}"
    for line in looked["bad_lines"]:
        yield f"  left out: {line}"


def _end(looked: dict[str, Any] | None) -> None:
    if looked is not None and (looked["bad"] or looked["rejected"]):
        raise click.exceptions.Exit(PART)


def _verdict(pipeline: Pipeline, proof: dict[str, Any] | None, warnings: Sequence[str]) -> Iterator[str]:
    """Whether it is right, and what to fix all the same."""
    yield f"{pipeline.name}: the pipeline file is valid" + (f", with {_counted(len(warnings))}" if warnings else "")
    for warning in warnings:
        yield f"WARNING: {warning}"
    if proof is None:
        yield "Determinism not checked (--no-proof)"
        return
    yield f"Deterministic: {proof['records']:,} synthetic records gave identical results in two processes"
    yield "  with different hash seeds, one of them restored from a snapshot midway."
    if not proof["comparable"]:
        yield "  Part of the state cannot be compared; its outputs were equal."


def _rounded(rate: float) -> int:
    """To two digits: it is no more exact than that."""
    return int(float(f"{rate:.2g}"))


def _counted(count: int) -> str:
    return "1 warning" if count == 1 else f"{count} warnings"


def _doubts(proof: dict[str, Any]) -> Iterator[str]:
    """What the proof saw that a user should know."""
    if not proof["negative"]:
        yield "the model raises on negative numbers, so the check used none; such events will be rejected"
    if proof["failed"]:
        yield f"the model raised {proof['failed']} times on synthetic records: {proof['failure']}"
    if proof["withheld"]:
        yield f"{proof['withheld']} predictions were not finite and would not be served"


def _needs(estimate: Need, pipeline: Pipeline, shard_rate: float | None) -> Sequence[str]:
    """What it will need, for people.

    Args:
        shard_rate: events a second that one shard processes here, with their labels; None where it was not measured.
    """
    lines = ["Resources (estimates):"]
    if shard_rate is not None:
        labels = "" if pipeline.label is None else " with their labels"
        lines.append(f"  a shard, on one core of this machine: {_rounded(shard_rate):,} events/s{labels}")
    per_event = f"{estimate.event_bytes} bytes each"
    if pipeline.label is None:
        lines.append("  pending events: none (the pipeline has no labels)")
    elif estimate.rate_per_s is None:
        bound = f"{estimate.pending_max:,} over {estimate.shards} shard{'s' * (estimate.shards > 1)}"
        lines.append(f"  pending events: at most {bound}, {_bytes(estimate.pending_bytes)} ({per_event})")
        lines.append(
            "    for an estimate by event rate, give --rate N (rate x label.wait, "
            f"{format_duration(pipeline.label.wait_ms)})"
        )
    else:
        wait = format_duration(pipeline.label.wait_ms)
        lines.append(
            f"  pending events: {estimate.rate_per_s:g}/s x {wait} = {estimate.pending_events:,} ({per_event})"
        )
        lines.append(f"    memory: {_bytes(estimate.pending_bytes)}")
        if estimate.crowded:
            lines.append(f"    WARNING: label.pending_max allows {estimate.pending_max:,} over all shards; beyond it,")
            lines.append("      the oldest events expire before their label arrives")
    lines.append(f"  remembered event ids: {_bytes(estimate.seen_bytes)}")
    lines += [
        f"  history by {one.by}: at most {one.key_bytes:,} bytes a key, {_bytes(one.bytes)} with "
        f"{one.keys_max:,} keys (event.keys_max, over all shards)"
        for one in estimate.history
    ]
    longest_ms = max((one.over_ms or 0 for one in _histories(pipeline)), default=0)
    if longest_ms > estimate.retention_ms:
        longest = format_duration(longest_ms)
        lines.append(
            f"  longest history window: {longest}, which is part of the state and outlives the topics; a fresh"
        )
        lines.append("    state, or a backtest over topics, begins with as much of it as retention has left")
    kept, outage = format_duration(estimate.retention_ms), format_duration(OUTAGE_MS)
    lines.append(f"  retention of events and labels: at least {kept} (two snapshots and an outage of {outage});")
    lines.append("    unlimited to keep everything replayable, or to survive an upgrade of River")
    lines.append("  retention of journal and snapshots: unlimited (`driftline topics create` sets this)")
    return lines


def _histories(pipeline: Pipeline) -> list[HistoryFeature]:
    return [one for one in pipeline.event.features.values() if isinstance(one, HistoryFeature)]


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:.1f} TB"
