"""Runs candidates over historical data: which process does what, their progress, and how they are stopped.

Candidates that read events and labels alike share one reading. With more processes than one, the candidates are dealt
out, and each process reads for its own. A process that is asked to stop gives back what it has.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from driftline.backtest.candidate import Candidate, Result, Rows, Spec
from driftline.backtest.score import CsvPart, open_part
from driftline.core.error import DriftlineError, InvariantError
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.ingest.history import TableSource
from driftline.ingest.log import LogSource

HistorySource: TypeAlias = TableSource | LogSource
REPORT_EVERY = 4  # batches
EACH_SNAPSHOT = "from a snapshot of each partition"
SOME_SNAPSHOTS = "from a snapshot where a partition has one, else cold at the beginning of its topics"
GARBAGE_THRESHOLDS = (100_000, 20, 100)


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for every candidate.

    Args:
        segment: a feature by which results are distinguished.
        burn_in_ms, burn_in_events: events at the beginning that are folded and not counted.
        per_day: alarms a day that people can look into; 0 where nobody asks.
        generation: of the model, whose predictions alone are counted; None counts all.
    """

    segment: str | None = None
    burn_in_ms: int = 0
    burn_in_events: int = 0
    per_day: int = 0
    generation: int | None = None


@dataclass
class Facts:
    """What the history turned out to be.

    Args:
        rows, size_bytes: read; bytes are known of topics only.
        start: from which state all candidates began, in words that follow "started".
        cut_events, cut_labels: from where topics are kept whose beginning is not, as text.
        bad: of them, unusable; the first of them in `bad_lines`.
        ahead: of them, with a time far ahead of the rows around; the first of them in `ahead_rows`.
        uncommanded: commands of operators were left out.
        counted: times were counted, not read: row i is at start_ms + i * step_ms.
    """

    rows: int = 0
    bad: int = 0
    bad_lines: list[str] = field(default_factory=list)
    unlabelled: int = 0
    disordered: int = 0
    ahead: int = 0
    ahead_rows: list[str] = field(default_factory=list)
    counted: bool = False
    start_ms: int = 0
    step_ms: int = 1
    size_bytes: int = 0
    start: str = "cold"
    cut_events: list[str] = field(default_factory=list)
    cut_labels: list[str] = field(default_factory=list)
    uncommanded: bool = False

    def merge(self, other: Facts) -> None:
        """Add another partition's."""
        for name in ("rows", "bad", "unlabelled", "disordered", "ahead", "size_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.uncommanded = self.uncommanded or other.uncommanded
        self.cut_events += other.cut_events
        self.cut_labels += other.cut_labels
        if self.start != other.start:
            warm = all(start.startswith("from") for start in (self.start, other.start))
            self.start = EACH_SNAPSHOT if warm else SOME_SNAPSHOTS


@dataclass
class Outcome:
    """A whole backtest, or the part of it that was done when it was stopped.

    Args:
        stopped: someone stopped it.
    """

    results: dict[str, Result]
    facts: Facts
    stopped: bool = False
    seconds: float = 0.0


class PartProgress(Protocol):
    """How a part reports its progress, and learns that it must stop."""

    def moved(self, done: int, total: int) -> None: ...

    def stopped(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Part:
    """Some candidates for one process.

    Args:
        folder: where scores go, None without.
        number: of the part; names its files.
    """

    number: int
    specs: tuple[Spec, ...]
    source: HistorySource
    options: Options
    folder: str | None

    def run(self, watch: PartProgress) -> tuple[list[Result], Facts]:
        """Fold it; called in the process that it is for."""
        groups = grouped(self.specs)
        results: list[Result] = []
        facts = Facts()
        with seldom_collected(), rows_of(self.folder, self.number) as rows:
            for number, group in enumerate(groups):  # when stopped, each still folds a first batch
                made, read = self._group(group, rows, _Share(watch, number, len(groups)))
                results += made
                if not number or read.rows > facts.rows:  # a group that could not be read knows nothing
                    facts = read
        return results, facts

    def _group(self, group: Sequence[Spec], rows: Rows | None, watch: PartProgress) -> tuple[list[Result], Facts]:
        """Candidates that read alike: one reading for all."""
        pipelines = [_pipeline(spec) for spec in group]
        try:
            history = self.source.open(pipelines[0])
        except DriftlineError as error:
            return [
                _failed(spec, chosen, self.options, str(error)) for spec, chosen in zip(group, pipelines, strict=True)
            ], Facts()
        options = self.options
        candidates = [
            Candidate(
                spec.name,
                chosen,
                segment=options.segment,
                burn_in_ms=options.burn_in_ms,
                burn_in_events=options.burn_in_events,
                rows=rows,
                per_day=options.per_day,
            )
            for spec, chosen in zip(group, pipelines, strict=True)
        ]
        at_work = candidates
        for number, batch in enumerate(history.batches()):
            for candidate in at_work:
                candidate.fold(batch)
                if candidate.failed:
                    at_work = [one for one in at_work if not one.failed]
            if number % REPORT_EVERY == 0:
                watch.moved(history.done, history.total)
                if watch.stopped() or not at_work:
                    break
        watch.moved(history.done, history.total)
        facts = Facts(
            rows=history.done,
            bad=history.bad.count,
            bad_lines=list(history.bad.lines),
            unlabelled=history.unlabelled,
            disordered=history.disordered,
            ahead=history.ahead,
            ahead_rows=list(history.ahead_rows),
            counted=history.counted,
            start_ms=history.start_ms,
            step_ms=history.step_ms,
        )
        return [candidate.finish() for candidate in candidates], facts


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """A fold makes no garbage in cycles of its own, and looking for it walks over all of the models each time."""
    before = gc.get_threshold()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def rows_of(folder: str | None, number: int) -> Iterator[Rows | None]:
    """Where a part puts its scores; None without a folder."""
    if folder is None:
        yield None
        return
    with open_part(Path(folder) / f"{number:04d}.csv") as file:
        yield CsvPart(file)


class Work(Protocol):
    """What one process does."""

    def run(self, watch: PartProgress) -> tuple[list[Result], Facts]: ...


class _Share:
    """Progress of one of several readings."""

    def __init__(self, watch: PartProgress, number: int, count: int) -> None:
        self._watch, self._number, self._count = watch, number, count

    def moved(self, done: int, total: int) -> None:
        self._watch.moved(self._number * total + done, self._count * total)

    def stopped(self) -> bool:
        return self._watch.stopped()


def grouped(specs: Sequence[Spec]) -> list[list[Spec]]:
    """Candidates that read events and labels alike, together."""
    groups: dict[str, list[Spec]] = {}
    for spec in specs:
        read = {key: spec.pipeline.get(key) for key in ("task", "event", "label", "limits")}
        groups.setdefault(json.dumps(read), []).append(spec)
    return list(groups.values())


def dealt(specs: Sequence[Spec], processes: int) -> list[tuple[Spec, ...]]:
    """The candidates of each process: those that read alike stay together as far as the work is even."""
    ordered = [spec for group in grouped(specs) for spec in group]
    count = max(1, min(processes, len(ordered)))
    cuts = [round(len(ordered) * number / count) for number in range(count + 1)]
    return [tuple(ordered[low:high]) for low, high in pairwise(cuts)]


def run(
    specs: Sequence[Spec],
    source: HistorySource,
    options: Options,
    *,
    processes: int,
    scores: Path | None,
    moved: Callable[[int, int], None],
) -> Outcome:
    """Fold every candidate over a history of files; see `run_parts`."""

    def parts(folder: str | None) -> list[Work]:
        return [Part(number, some, source, options, folder) for number, some in enumerate(dealt(specs, processes))]

    return run_parts(specs, parts, processes=processes, scores=scores, moved=moved)


def run_parts(
    specs: Sequence[Spec],
    parts_in: Callable[[str | None], Sequence[Work]],
    *,
    processes: int,
    scores: Path | None,
    moved: Callable[[int, int], None],
) -> Outcome:
    """Do every part, some at once, and add up what they give.

    Args:
        parts_in: makes the parts, which put scores into a folder.
        processes: 1 does all of it in this one.
        scores: a folder, into which each part puts its scores; None for none. See `backtest.score.drafted`.
        moved: called with rows done and to be done, over all processes.

    Returns:
        With `stopped` set after Ctrl-C: what was folded until then.
    """
    parts = parts_in(str(scores) if scores is not None else None)
    stop = Stop()
    with stop:
        done = _here(parts, stop, moved) if min(len(parts), processes) == 1 else _spread(parts, processes, stop, moved)
    results, facts = _added(done)
    return Outcome({spec.name: results[spec.name] for spec in specs if spec.name in results}, facts, stop.asked)


Done: TypeAlias = list[tuple[list[Result], Facts]]


class Stop:
    """Ctrl-C asks to stop at the next batch; a second one breaks off."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Stop:
        with contextlib.suppress(ValueError):  # not in the main thread: no one presses keys there
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _added(done: Done) -> tuple[dict[str, Result], Facts]:
    """The results by candidate: partitions of one are added up, readings of the same files are not."""
    results: dict[str, Result] = {}
    facts: Facts | None = None
    for made, read in done:
        again = any(result.name in results for result in made)
        for result in made:
            if result.name in results:
                results[result.name].merge(result)
            else:
                results[result.name] = result
        if facts is None or (not again and read.rows > facts.rows):
            facts = read
        elif again:
            facts.merge(read)
    for result in results.values():
        result.failure = result.failure or result.taught_nothing
    return results, facts or Facts()


def _here(parts: Sequence[Work], stop: Stop, moved: Callable[[int, int], None]) -> Done:
    class Here:
        def moved(self, done: int, total: int) -> None:
            moved(done, total)

        def stopped(self) -> bool:
            return stop.asked

    here = Here()
    done: Done = []
    for number, part in enumerate(parts):
        if done and stop.asked:
            break
        done.append(part.run(_Share(here, number, len(parts))))
    return done


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until afterwards; in a process that is started in the meantime, for good: it cannot say so itself
    while it still imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _spread(parts: Sequence[Work], processes: int, stop: Stop, moved: Callable[[int, int], None]) -> Done:
    """Each part in a process of its own, some at once; after a stop, no further ones."""
    context = multiprocessing.get_context("spawn")
    halt = context.Event()
    ends: dict[Any, int] = {}
    running = []
    waiting = list(enumerate(parts))

    def begin() -> None:
        while waiting and len(ends) < processes:
            number, part = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(part, theirs, halt, list(sys.path)), daemon=True)
            with uninterrupted():
                process.start()
            theirs.close()
            running.append(process)
            ends[ours] = number

    begin()
    progress = [(0, 0)] * len(parts)
    done: Done = []
    try:
        while ends:
            if stop.asked:
                halt.set()
            ready: list[Any] = list(wait(list(ends), timeout=0.2))
            for end in ready:
                number = ends[end]
                try:
                    kind, content = end.recv()
                except EOFError:
                    raise InvariantError(
                        f"a process of the backtest died (exit code {running[number].exitcode}), perhaps for lack of "
                        "memory. Try --processes 1"
                    ) from None
                if kind == "moved":
                    progress[number] = content
                    moved(sum(part for part, _ in progress), sum(total for _, total in progress))
                    continue
                del ends[end]
                if kind == "failed":
                    raise _failure(*content)
                done.append(content)
                if not stop.asked:
                    begin()
    finally:
        for process in running:
            if ends:
                process.terminate()
            process.join()
    return done


def _failure(text: str, exit_code: int) -> DriftlineError:
    error = DriftlineError(text)
    error.exit_code = exit_code
    return error


def _work(part: Work, end: Any, halt: Any, path: list[str]) -> None:
    """A process of its own. Ctrl-C reaches it too, and is its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path

    class There:
        def moved(self, done: int, total: int) -> None:
            end.send(("moved", (done, total)))

        def stopped(self) -> bool:
            return bool(halt.is_set())

    try:
        end.send(("done", part.run(There())))
    except DriftlineError as error:
        end.send(("failed", (str(error), error.exit_code)))
    except Exception as error:  # noqa: BLE001 - the other process reports it
        traceback.print_exc()
        text = f"a process of the backtest failed; this is a bug in Driftline: {type(error).__name__}: {error}"
        end.send(("failed", (text, InvariantError.exit_code)))


def _pipeline(spec: Spec) -> Pipeline:
    return parse_pipeline(spec.pipeline, spare=True)


def _failed(spec: Spec, pipeline: Pipeline, options: Options, why: str) -> Result:
    result = Candidate(spec.name, pipeline, segment=options.segment).finish()
    result.failure = why
    return result


def cores() -> int:
    """Processes that can run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
