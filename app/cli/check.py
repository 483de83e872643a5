"""`driftline check`: is this pipeline file right, what will it need, and does it give the same bits twice?

The proof folds synthetic records in two processes whose hashes are seeded differently, since an order that
depends on hashes cannot show within one process. One of the two turns its state to bytes and back midway.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import msgspec

from app.cli.live import against_live
from app.cli.option import bootstrap_option, json_option, pipeline_of, pipeline_option, settings_of
from app.config import dump_pipeline
from app.core.error import DriftlineError, PipelineError, Problem
from app.core.need import OUTAGE_MS, Need, need
from app.core.pipeline import Pipeline, format_duration, parse_pipeline, pipeline_schema
from app.core.proof import EVENT_COUNT, Trace, Verdict, compare, first_difference, fold, synthetic_records

_CHILD = "from app.cli.check import fold_as_child; fold_as_child()"
_TIMEOUT_S = 600


class NotDeterministicError(DriftlineError):
    """The same records gave different bits: nothing that this pipeline serves could be replayed."""

    exit_code = 4


@click.command(short_help="Check a pipeline file: resolved settings, needs, determinism.")
@pipeline_option
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Events per second, all partitions."
)
@click.option(
    "--partitions", type=click.IntRange(1, 10_000), help="Partitions of the events topic (DRIFTLINE_PARTITIONS)."
)
@click.option("--no-proof", is_flag=True, help="Leave out the proof of determinism, which takes some seconds.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of pipeline files, for editors, and end.")
@click.option(
    "--against-live",
    "live",
    is_flag=True,
    help="Say instead what a deploy of this file, with these versions, would do to the state that is there.",
)
@bootstrap_option
@json_option
def check(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    rate: float | None,
    partitions: int | None,
    no_proof: bool,
    schema: bool,
    live: bool,
    bootstrap: str | None,
    as_json: bool,
) -> None:
    """Check a pipeline file.

    Prints the whole pipeline with every default filled in, and what it will need; or every problem at once,
    on stderr. Then it proves that the pipeline gives the same bits in any process.

    With --against-live it reads Kafka instead, and says of every shard whether a worker with this file and these
    versions goes on with the state that is there.

    Exit codes: 0 it is right, 2 the file is wrong, 4 it gives different bits in different processes. Of --against-live:
    0 the state is kept, 1 parts of it begin anew, 4 a worker would stop.
    """
    if schema:
        click.echo(json.dumps(pipeline_schema(), indent=2))
        return
    settings = settings_of(partitions=partitions, bootstrap=bootstrap)
    if live:
        against_live(pipeline_of(settings, pipeline_file, overrides), settings, as_json=as_json)
        return
    try:
        pipeline = pipeline_of(settings, pipeline_file, overrides)
        estimate = need(pipeline, rate, settings.partitions)
        report: dict[str, Any] = {"pipeline": pipeline.resolved(), "needs": msgspec.to_builtins(estimate)}
        if not as_json:
            click.echo(dump_pipeline(pipeline), nl=False)
            click.echo("".join(f"# {line}\n" for line in _needs(estimate, pipeline)), nl=False)
        if not no_proof:
            proof = prove(pipeline)
            report["proof"] = proof
            if not as_json:
                click.echo("".join(f"# {line}\n" for line in _proven(proof)), nl=False)
    except PipelineError as error:
        if as_json:
            problems = [msgspec.to_builtins(problem, enc_hook=str) for problem in error.problems]
            click.echo(json.dumps({"problems": problems}, indent=2))
        raise
    if as_json:
        click.echo(json.dumps(report, indent=2))


def prove(pipeline: Pipeline, events: int = EVENT_COUNT) -> dict[str, Any]:
    """Fold synthetic records in two processes and compare.

    Returns:
        events, records, failed, failure (what the model raised first), withheld, comparable (whether the
        states could be compared and not only the outputs), negative (whether the events had negative
        numbers).

    Raises:
        PipelineError: the model raises on every event.
        NotDeterministicError: the outputs or states differ; the text names the first step that does.
    """
    negative = True
    task = _Task(pipeline, events, negative)
    first, second = _fold_twice(task)
    if _fails(first) and not (first.failure or "").startswith("TypeError"):  # text among numbers fails in any case
        alternative = _Task(pipeline, events, False)
        others = _fold_twice(alternative)
        if others[0].failed < first.failed:
            (first, second), task, negative = others, alternative, False
    verdict = compare(first, second)
    if not verdict.equal:
        raise NotDeterministicError(_blame(task, first, verdict))
    if _fails(first):
        raise PipelineError([Problem("model", None, _failure(first, events))])
    return {
        "events": events,
        "records": len(first.outputs),
        "failed": first.failed,
        "failure": first.failure,
        "withheld": first.withheld,
        "comparable": verdict.comparable,
        "negative": negative,
    }


def _fails(trace: Trace) -> bool:
    """Whether the model fails for most of what it is asked."""
    return 2 * trace.failed > trace.scored


def _failure(trace: Trace, events: int) -> str:
    return (
        f"the model raised {trace.failed} times on {events} synthetic events of the declared types: {trace.failure}. "
        "Look at what `model` and `params` give it; a string feature must pass an encoder first, as in "
        "(Select('country') | OneHotEncoder()); a model of counts takes no negative numbers"
    )


class _Task(msgspec.Struct, frozen=True):
    """What child processes are told to fold."""

    pipeline: Pipeline
    events: int
    negative: bool

    def order(self, freeze_at: int | None, look_at: int | None) -> bytes:
        return json.dumps(
            {
                "pipeline": self.pipeline.resolved(),
                "events": self.events,
                "negative": self.negative,
                "freeze_at": freeze_at,
                "look_at": look_at,
            }
        ).encode()


def _fold_twice(task: _Task, look_at: int | None = None) -> tuple[Trace, Trace]:
    """Two processes at once: their hashes differ, and the state of one is frozen midway."""
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(_fold_in_child, "1", task.order(None, look_at))
        frozen = pool.submit(_fold_in_child, "2", task.order(task.events // 2, look_at))
        return plain.result(), frozen.result()


def _fold_in_child(hash_seed: str, order: bytes) -> Trace:
    paths = os.pathsep.join(filter(None, sys.path))
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _CHILD],
            input=order,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotDeterministicError(
            f"the proof took longer than {_TIMEOUT_S} s: the model is too slow to serve a stream; take a lighter one, "
            "or leave the proof out with --no-proof"
        ) from None
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotDeterministicError(f"the records cannot be folded: {told[-1]}; take another model or detector")
    return msgspec.json.decode(done.stdout, type=Trace)


def fold_as_child() -> None:
    """The child's side: an order on stdin, a trace on stdout."""
    order = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # a user's factory may print
        pipeline = parse_pipeline(order["pipeline"])
        records = synthetic_records(pipeline, order["events"], negative=order["negative"])
        trace = fold(pipeline, records, freeze_at=order["freeze_at"], look_at=order["look_at"])
    sys.stdout.buffer.write(msgspec.json.encode(trace))


def _blame(task: _Task, trace: Trace, verdict: Verdict) -> str:
    """Where the two folds first differ, and in which step of the model."""
    number = len(trace.outputs) if verdict.record is None else verdict.record
    first, second = _fold_twice(task, look_at=number)
    step = first_difference(first.steps, second.steps)
    if verdict.record is None:
        what = f"after {number} synthetic records the state differs in {', '.join(verdict.parts)}"
    else:
        what = f"the outputs of synthetic record {number} of {len(trace.outputs)} differ"
    where = f"; the first model step that does is {step}" if step else "; every step of the model is equal before it"
    return (
        f"not deterministic: between two processes {what}{where}. Nothing served could be replayed: seed that step, "
        "give it lists instead of sets, or take another one"
    )


def _needs(estimate: Need, pipeline: Pipeline) -> Sequence[str]:
    """What it will need, for people."""
    lines = ["", "What it will need (estimates):"]
    per_event = f"{estimate.event_bytes} bytes each"
    if pipeline.label is None:
        lines.append("  pending events: none, no labels are declared")
    elif estimate.rate_per_s is None:
        bound = f"{estimate.pending_max:,} over {estimate.partitions} partitions"
        lines.append(f"  pending events: at most {bound}, {_bytes(estimate.pending_bytes)} ({per_event})")
        lines.append(f"    give --rate N for rate x wait ({format_duration(pipeline.label.wait_ms)})")
    else:
        wait = format_duration(pipeline.label.wait_ms)
        lines.append(
            f"  pending events: {estimate.rate_per_s:g}/s x {wait} = {estimate.pending_events:,} ({per_event})"
        )
        lines.append(f"    memory: {_bytes(estimate.pending_bytes)}")
        if estimate.crowded:
            lines.append(
                f"    WARNING: label.pending_max allows {estimate.pending_max:,} over all partitions; beyond it,"
            )
            lines.append("      the oldest events are given up before their label comes")
    lines.append(f"  remembered event ids: {_bytes(estimate.seen_bytes)}")
    kept, outage = format_duration(estimate.retention_ms), format_duration(OUTAGE_MS)
    lines.append(f"  retention of events and labels: at least {kept} (two snapshots, and {outage} of outage);")
    lines.append("    unlimited, if everything served shall stay replayable, or survive an upgrade of River")
    lines.append("  retention of journal and snapshots: unlimited, as `driftline topics create` sets it")
    return lines


def _proven(proof: dict[str, Any]) -> Sequence[str]:
    lines = ["", f"Deterministic: {proof['records']:,} synthetic records gave the same bits in two processes,"]
    lines.append("  under different hash seeds, one of them frozen and thawed midway.")
    if not proof["comparable"]:
        lines.append("  A part of the state cannot be compared; its outputs were equal.")
    if not proof["negative"]:
        lines.append(
            "  WARNING: the model raised on negative numbers, so the proof used none; such events are rejected."
        )
    if proof["failed"]:
        lines.append(f"  WARNING: the model raised {proof['failed']} times on synthetic records: {proof['failure']}")
    if proof["withheld"]:
        lines.append(f"  WARNING: {proof['withheld']} predictions were not finite numbers, and were not served.")
    return lines


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:.1f} TB"
