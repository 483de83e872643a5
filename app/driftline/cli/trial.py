"""Tries a pipeline in separate processes, with limits on their memory and time.

What building a model takes shows only as it is built: so a child builds it first, and this process does so only if
that went well. Two fold synthetic records under different hash seeds, since an order that depends on hashes cannot
show within one process. One of the two turns its state to bytes and back midway.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from msgspec.structs import replace

from driftline.author.capacity import events_a_second
from driftline.author.proof import EVENT_COUNT, Trace, Verdict, compare, first_difference, fold, synthetic_records
from driftline.config import load_pipeline
from driftline.core.error import DriftlineError, PipelineError, Problem
from driftline.core.pipeline import Pipeline

MEMORY_MAX = 4 * 1024**3  # bytes of address space of a child; half of the machine's memory where that is less
BUILD_S = 60.0
FOLD_S = 600.0
_TOO_LARGE, _WRONG = 3, 4  # exit codes of a child: it ran out of its memory, or the file is wrong


class NotDeterministicError(DriftlineError):
    """The same records gave different bits: nothing that this pipeline serves could be replayed."""

    exit_code = 4


class _WrongFileError(Exception):
    """The pipeline file is wrong: whoever reads it says how."""


class _TooLargeError(Exception):
    """A child took more than its memory."""


class _TooSlowError(Exception):
    """A child took more than its time."""


# -- building


def try_building(path: Path, overrides: tuple[str, ...]) -> None:
    """Build a pipeline's model in a child with bounds; other faults of the file are reported elsewhere.

    Raises:
        PipelineError: it takes more memory or time than a model may.
    """
    order = {"path": str(path), "overrides": overrides}
    try:
        _child("build_as_child", json.dumps(order).encode(), BUILD_S)
    except _WrongFileError:
        return
    except _TooLargeError:
        _refuse(path, f"takes more than {_limit() / 1e9:.1f} GB of memory to build")
    except _TooSlowError:
        _refuse(path, f"takes more than {BUILD_S:g} s to build")


def _refuse(path: Path, what: str) -> NoReturn:
    text = f"{what}; make it smaller (n_models, n_trees, height, n_components, ...)"
    raise PipelineError([Problem("model", None, text, str(path))])


def build_as_child() -> None:
    """The child's side: an order on stdin."""
    _bound_memory()
    order = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr), _ended_by_memory():
        _loaded(order)


def _loaded(order: Mapping[str, Any]) -> Pipeline:
    try:
        return load_pipeline(Path(order["path"]), order["overrides"])
    except DriftlineError:
        sys.exit(_WRONG)


# -- folding


def prove(path: Path, overrides: tuple[str, ...], events: int = EVENT_COUNT) -> dict[str, Any]:
    """Fold synthetic records in two processes and compare.

    Returns:
        events, records, failed, failure (what the model raised first), withheld, comparable (whether the
        states could be compared and not only the outputs), negative (whether the events had negative
        numbers), events_per_s (with their labels, by one shard here; None if the model raised).

    Raises:
        PipelineError: the file is wrong, the model raises on every event, or takes more memory than it may.
        NotDeterministicError: the outputs or states differ; the text names the first step that does.
    """
    negative = True
    task = _Task(path, overrides, events, negative)
    try:
        first, second = _fold_twice(task)
    except _WrongFileError:
        load_pipeline(path, overrides)  # says what is wrong
        raise
    if _fails(first) and not (first.failure or "").startswith("TypeError"):  # text among numbers fails in any case
        alternative = _Task(path, overrides, events, False)
        others = _fold_twice(alternative)
        if others[0].failed < first.failed:
            (first, second), task, negative = others, alternative, False
    verdict = compare(first, second)
    if not verdict.equal:
        raise NotDeterministicError(_blame(task, first, verdict))
    if _fails(first):
        raise PipelineError([Problem("model", None, _failure(first, events), str(path))])
    return {
        "events": events,
        "records": len(first.outputs),
        "failed": first.failed,
        "failure": first.failure,
        "withheld": first.withheld,
        "comparable": verdict.comparable,
        "negative": negative,
        "events_per_s": first.events_per_s,
    }


def _fails(trace: Trace) -> bool:
    """Whether the model fails for most of what it is asked."""
    return 2 * trace.failed > trace.scored


def _failure(trace: Trace, events: int) -> str:
    if (trace.failure or "").startswith("MemoryError"):
        return f"the model takes more than {_limit() / 1e9:.1f} GB of memory while learning; make it smaller"
    return (
        f"the model raised {trace.failed} times on {events} synthetic events of the declared types: {trace.failure}. "
        "Check `model` and `params`: a string feature needs an encoder, as in "
        "(Select('country') | OneHotEncoder(drop_zeros=True)); some models take no negative numbers"
    )


class _Task(msgspec.Struct, frozen=True):
    """What child processes fold."""

    path: Path
    overrides: tuple[str, ...]
    events: int
    negative: bool

    def order(self, freeze_at: int | None, look_at: int | None) -> bytes:
        return json.dumps(
            {
                "path": str(self.path),
                "overrides": self.overrides,
                "events": self.events,
                "negative": self.negative,
                "freeze_at": freeze_at,
                "look_at": look_at,
            }
        ).encode()


def _fold_twice(task: _Task, look_at: int | None = None) -> tuple[Trace, Trace]:
    """Two processes at once: their hashes differ, and the state of one is frozen midway."""
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(_fold_in_child, task.path, "1", task.order(None, look_at))
        frozen = pool.submit(_fold_in_child, task.path, "2", task.order(task.events // 2, look_at))
        return plain.result(), frozen.result()


def _fold_in_child(path: Path, hash_seed: str, order: bytes) -> Trace:
    try:
        done = _child("fold_as_child", order, FOLD_S, {"PYTHONHASHSEED": hash_seed})
    except _TooLargeError:
        _refuse(path, f"takes more than {_limit() / 1e9:.1f} GB of memory to build, or for {EVENT_COUNT:,} events")
    except _TooSlowError:
        raise NotDeterministicError(
            f"the determinism check took longer than {FOLD_S:g} s: the model is too slow for a stream. "
            "Use a lighter one, or skip the check with --no-proof"
        ) from None
    if done.returncode != 0:
        errors = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        if "MemoryError" in errors[-1]:
            _refuse(path, f"takes more than {_limit() / 1e9:.1f} GB of memory for {EVENT_COUNT:,} events")
        raise NotDeterministicError(f"the records cannot be processed: {errors[-1]}; use another model or detector")
    return msgspec.json.decode(done.stdout, type=Trace)


def fold_as_child() -> None:
    """The child's side: an order on stdin, a trace on stdout."""
    _bound_memory()
    order = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr), _ended_by_memory():  # a user's factory may print
        pipeline = _loaded(order)
        records = synthetic_records(pipeline, order["events"], negative=order["negative"])
        trace = fold(pipeline, records, freeze_at=order["freeze_at"], look_at=order["look_at"])
        if order["freeze_at"] is None and order["look_at"] is None and not trace.failed:
            trace = replace(trace, events_per_s=events_a_second(pipeline, records))
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
    where = (
        f"; the first model step that differs is {step}" if step else "; all steps of the model were equal before it"
    )
    return (
        f"not deterministic: between two processes {what}{where}. Replays would fail: seed that step, "
        "give it lists instead of sets, or use another one"
    )


# -- children


def _child(
    function: str, order: bytes, time_s: float, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a function of this module in a process of its own.

    Raises:
        _TooLargeError, _TooSlowError: it took more than it may.
        _WrongFileError: it could not load the pipeline file.
    """
    paths = os.pathsep.join(filter(None, sys.path))
    own = {"PYTHONPATH": paths, **(environ or {})}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"from {__name__} import {function}; {function}()"],
            input=order,
            capture_output=True,
            env={**os.environ, **own},
            timeout=time_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _TooSlowError from None
    # A library that is not Python's aborts where it gets no memory, and the system kills where there is none.
    if done.returncode == _TOO_LARGE or done.returncode < 0:
        raise _TooLargeError
    if done.returncode == _WRONG:
        raise _WrongFileError
    return done


def _limit() -> int:
    """Bytes that a child may take."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return MEMORY_MAX
    return min(MEMORY_MAX, machine // 2)


def _bound_memory() -> None:
    """Bound this process's memory, where the system can (macOS cannot)."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_limit(), _limit()))


@contextlib.contextmanager
def _ended_by_memory() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        os._exit(_TOO_LARGE)  # without what could ask for more memory
