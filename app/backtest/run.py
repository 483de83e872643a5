"""Candidates over a history: who folds what in which process, how far they are, and what to do when asked to stop.

Candidates that read events and labels alike share one reading. With more processes than one, the candidates are dealt
out, and each process reads for its own. A process that is asked to stop gives back what it has.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from app.backtest.candidate import Candidate, Result, Rows, Spec
from app.backtest.history import LogSource, TableSource
from app.backtest.score import CsvPart, put_together
from app.core.error import DriftlineError, InvariantError
from app.core.pipeline import Pipeline, parse_pipeline

HistorySource: TypeAlias = TableSource | LogSource
SAID_EVERY = 4  # batches


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for every candidate.

    Args:
        segment: a feature by which results are told apart.
        burn_in_ms, burn_in_events: events at the beginning that are folded and not counted.
        scores: whether every score is kept.
    """

    segment: str | None = None
    burn_in_ms: int = 0
    burn_in_events: int = 0
    scores: bool = False


@dataclass
class Facts:
    """What the history turned out to be.

    Args:
        rows: rows or records read.
        bad: of them, unusable; the first of them in `bad_lines`.
        counted: times were counted, not read: row i is at start_ms + i * step_ms.
    """

    rows: int = 0
    bad: int = 0
    bad_lines: list[str] = field(default_factory=list)
    unlabelled: int = 0
    disordered: int = 0
    counted: bool = False
    start_ms: int = 0
    step_ms: int = 1


@dataclass
class Outcome:
    """A whole backtest, or the part of it that was done when it was stopped.

    Args:
        stopped: somebody stopped it.
    """

    results: dict[str, Result]
    facts: Facts
    stopped: bool = False
    seconds: float = 0.0


class Watch(Protocol):
    """How a part tells how far it is, and learns that it is to stop."""

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

    def run(self, watch: Watch) -> tuple[list[Result], Facts]:
        """Fold it; called in the process that it is for."""
        groups = grouped(self.specs)
        results: list[Result] = []
        facts = Facts()
        with self._rows() as rows:
            for number, group in enumerate(groups):  # when stopped, each still folds a first batch
                made, facts = self._group(group, rows, _Share(watch, number, len(groups)))
                results += made
        return results, facts

    def _group(self, group: Sequence[Spec], rows: Rows | None, watch: Watch) -> tuple[list[Result], Facts]:
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
            )
            for spec, chosen in zip(group, pipelines, strict=True)
        ]
        at_work = candidates
        for number, batch in enumerate(history.batches()):
            for candidate in at_work:
                candidate.fold(batch)
                if candidate.failed:
                    at_work = [one for one in at_work if not one.failed]
            if number % SAID_EVERY == 0:
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
            counted=history.counted,
            start_ms=history.start_ms,
            step_ms=history.step_ms,
        )
        return [candidate.finish() for candidate in candidates], facts

    @contextlib.contextmanager
    def _rows(self) -> Iterator[Rows | None]:
        if self.folder is None:
            yield None
            return
        with (Path(self.folder) / f"{self.number:04d}.csv").open("w", newline="", encoding="utf-8") as file:
            yield CsvPart(file)


class _Share:
    """Progress of one of several readings."""

    def __init__(self, watch: Watch, number: int, count: int) -> None:
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
    """Fold every candidate over the history.

    Args:
        scores: where every score is written, or None.
        moved: told of rows done and to be done, over all processes.

    Returns:
        With `stopped` set after Ctrl-C: what was folded until then.
    """
    with tempfile.TemporaryDirectory(dir=scores.parent if scores else None, prefix=".driftline-") as folder:
        parts = [
            Part(number, dealt_out, source, options, folder if scores else None)
            for number, dealt_out in enumerate(dealt(specs, processes))
        ]
        stop = _Stop()
        with stop:
            done = _here(parts[0], stop, moved) if len(parts) == 1 else _spread(parts, stop, moved)
        results = {result.name: result for made, _ in done for result in made}
        facts = max((facts for _, facts in done), key=lambda facts: facts.rows, default=Facts())
        if scores is not None:
            put_together(sorted(Path(folder).glob("*.csv")), scores)
    return Outcome({spec.name: results[spec.name] for spec in specs if spec.name in results}, facts, stop.asked)


Done: TypeAlias = list[tuple[list[Result], Facts]]


class _Stop:
    """Ctrl-C asks to stop at the next batch; a second one breaks off."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> _Stop:
        with contextlib.suppress(ValueError):  # not in the main thread: nobody presses keys there
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _here(part: Part, stop: _Stop, moved: Callable[[int, int], None]) -> Done:
    class Here:
        def moved(self, done: int, total: int) -> None:
            moved(done, total)

        def stopped(self) -> bool:
            return stop.asked

    return [part.run(Here())]


def _spread(parts: Sequence[Part], stop: _Stop, moved: Callable[[int, int], None]) -> Done:
    """Each part in a process of its own."""
    context = multiprocessing.get_context("spawn")
    halt = context.Event()
    ends: dict[Any, int] = {}
    running = []
    for number, part in enumerate(parts):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(part, theirs, halt, list(sys.path)), daemon=True)
        process.start()
        theirs.close()
        running.append(process)
        ends[ours] = number
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
                        f"a process of the backtest died (exit code {running[number].exitcode}); is there enough "
                        "memory? Try --processes 1"
                    ) from None
                if kind == "moved":
                    progress[number] = content
                    moved(sum(part for part, _ in progress), sum(total for _, total in progress))
                    continue
                del ends[end]
                if kind == "failed":
                    raise _told(*content)
                done.append(content)
    finally:
        for process in running:
            if ends:
                process.terminate()
            process.join()
    return done


def _told(text: str, exit_code: int) -> DriftlineError:
    error = DriftlineError(text)
    error.exit_code = exit_code
    return error


def _work(part: Part, end: Any, halt: Any, path: list[str]) -> None:
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


def _pipeline(spec: Spec) -> Pipeline:
    return parse_pipeline(spec.pipeline)


def _failed(spec: Spec, pipeline: Pipeline, options: Options, why: str) -> Result:
    result = Candidate(spec.name, pipeline, segment=options.segment).finish()
    result.failure = why
    return result


def cores() -> int:
    """Processes that can run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
