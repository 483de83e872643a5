"""`driftline init`: a pipeline file for a data file, for someone who knows the data and not River.

It looks at the first rows (see `author.profile`), tries a handful of models and baselines on them (`cli.selection`),
and writes a file that `driftline check` accepts, with a comment beside every choice.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from msgspec.structs import replace

from driftline.author import joining
from driftline.author.joining import NOT_JOINED, Joined, join
from driftline.author.logged import Logged, find_logged, item_beside
from driftline.author.past import Proposal, propose
from driftline.author.profile import Left, Profile, ProfileError, looks_like_label, profile, without_features
from driftline.author.sample import Sample, find_column, read_sample
from driftline.author.series import Found, find_series
from driftline.author.shuffle import are_sorted, shuffled, write_shuffled
from driftline.cli.ahead import AheadDraft, AheadTrial
from driftline.cli.command.init import Wanted
from driftline.cli.draft import Draft, Origin
from driftline.cli.echo import echo, show
from driftline.cli.option import Rows
from driftline.cli.selection import Result, Trial
from driftline.cli.slate_trial import SlateTrial
from driftline.cli.slates import Log, Names, SlateDraft
from driftline.config import read_pipeline
from driftline.core.error import InputFileError, InvariantError, PipelineError
from driftline.core.number import is_unlabelled
from driftline.core.task import TaskName, task_of
from driftline.core.wording import escaped
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource
from driftline.ingest.rows import is_json

_ROWS_MIN = 10


class Tried(Protocol):
    """What a trial found."""

    def lines(self) -> Iterator[str]:
        """For the terminal."""

    def document(self) -> dict[str, Any] | None:
        """For programs."""


@dataclass(frozen=True)
class Plan:
    """What is written, of which features, and the trial that may choose another model for it.

    Args:
        trial: tries, and settles what is written.
        files: that are written beside the pipeline file, and where each is now.
        notes: of what else the table might be.
    """

    draft: Draft
    found: Profile
    past: Proposal
    trial: Callable[[], Tried | None]
    files: Mapping[Path, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def init(rows: Rows, wanted: Wanted, as_json: bool) -> None:
    """What `driftline init` does."""
    name = wanted.name or _slug(rows.path)
    output = wanted.output or Path(f"{name}.yaml")
    if not wanted.force and str(output) != "-" and output.exists():
        raise _exists(output)
    with _beside(rows, wanted, output.with_name(f"{name}.joined{_suffix(rows.path)}")) as (rows, labels):
        wanted = dataclasses.replace(wanted, label_delay_ms=wanted.label_delay_ms or labels.delay_ms)
        _init(Origin(rows, name, output, wanted.label_delay_ms, labels), wanted, as_json)


def _init(origin: Origin, wanted: Wanted, as_json: bool) -> None:
    """What is to be written, and where, once labels are in the rows of their events."""
    rows = origin.rows
    path, label = rows.path, rows.label
    sample = read_sample(path, decimal=rows.decimal)
    if sample.rows < _ROWS_MIN:
        raise InputFileError(
            f"{path} has {sample.rows} row{'s' * (sample.rows != 1)}, which is too few; give at least "
            f"{_ROWS_MIN}{sample.bad.first}"
        )
    _check_fields(sample, rows, wanted.task)
    sample, unlabelled = _without_words(sample, label)
    logged = _logged(sample, rows, wanted)
    with tempfile.TemporaryDirectory() as folder:
        if logged is not None:
            plan = _plan_slates(logged, sample, origin, wanted, Path(folder))
            sample = replace(sample, arrays=tuple(one for one in sample.arrays if one != logged.listed))
        else:
            found = _profile(sample, rows, wanted)
            tried = path
            if _sorted_by_class(found, sample, label):
                sample, tried = shuffled(sample), write_shuffled(path, Path(folder), sample.rows)
            plan = _plan(found, sample, origin, wanted, tried)
        _finish(plan, origin, wanted, sample, unlabelled, as_json)


@contextmanager
def _beside(rows: Rows, wanted: Wanted, target: Path) -> Iterator[tuple[Rows, Joined]]:
    """The rows with the labels of a file of their own, if there is one; they stay if all else goes well.

    Raises:
        InputFileError: the labels cannot be joined, or the file that would hold both is there already.
    """
    if wanted.labels is None:
        yield rows, NOT_JOINED
        return
    if rows.label is None:
        raise InputFileError(f"--labels {wanted.labels}: name the field in it that holds the label with --label FIELD")
    if target.exists() and not wanted.force:
        raise _exists(target)
    of = joining.Wanted(rows.label, rows.event_id, rows.time_field, rows.decimal, rows.time_form)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, target.name)
        labels = join(rows.path, wanted.labels, of, made)
        _move(made, target)
    try:
        yield dataclasses.replace(rows, path=target), labels
    except BaseException:  # Ctrl-C in the trial as well: the next try would find the file and refuse
        target.unlink(missing_ok=True)
        raise


def _suffix(path: Path) -> str:
    return ".jsonl" if is_json(path) else ".csv"


def _finish(plan: Plan, origin: Origin, wanted: Wanted, sample: Sample, unlabelled: str, as_json: bool) -> None:
    """Choose a model by trial, write what was planned, and say what a person should know of it."""
    draft, output, label = plan.draft, origin.output, origin.rows.label
    _check(draft.text(), origin.name)
    result = plan.trial() if wanted.tried and label is not None else None
    text = draft.text()
    _check(text, origin.name)
    written = {"pipeline": origin.name, "task": plan.found.target.task, "file": str(output), "text": text}
    document = written | {"trial": result.document() if result is not None else None}
    if as_json and str(output) == "-":
        show(document, tuple, as_json=True)
    else:
        _write(text, output, wanted.force)
        for target, made in plan.files.items():
            _move(made, target)
        show(document, tuple, as_json=as_json)
    if unlabelled:
        echo(f"note: these values of {label} count as missing: {unlabelled}", err=True)
    _print_notes(plan, sample, origin)
    for note in (*draft.notes, *plan.notes):
        _note(f"note: {note}")
    for line in result.lines() if result is not None else ():
        echo(line, err=True)
    if str(output) != "-":
        echo(f"Review the file, then: driftline check -p {output}", err=True)


def _logged(sample: Sample, rows: Rows, wanted: Wanted) -> Logged | None:
    """Logged recommendations: where they are asked for, or nothing else is and the table shows that it holds such.

    Raises:
        InputFileError: they are asked for, and there are none.
    """
    asked = wanted.task is not None and task_of(wanted.task).slates
    if rows.label is None or (wanted.task is not None and not asked):
        return None
    found = find_logged(
        sample, rows.label, event_id=rows.event_id, time=rows.time_field, form=rows.time_form, asked=asked
    )
    if found is None and asked:
        raise InputFileError(
            f"{rows.path}: no logged recommendations. Give a row for each item that was shown, with a column such as "
            f"`item` (ids that come again), or a row for each request with the list of candidates and the one that was "
            f"shown; {rows.label} must be what it earned, a number or one of two values. See docs/recommend.md"
        )
    return found if found is not None and (found.sure or asked) else None


def _plan_slates(found: Logged, sample: Sample, origin: Origin, wanted: Wanted, folder: Path) -> Plan:
    """A pipeline that recommends, and the log as it is read by backtests.

    Raises:
        InputFileError: a file that would be written is there already.
    """
    files = None
    if str(origin.output) != "-":
        beside = origin.output.with_name
        files = beside(f"{origin.name}.requests.jsonl"), beside(f"{origin.name}.rewards.jsonl")
        for path in () if wanted.force else files:
            if path.exists():
                raise _exists(path)
    made = folder / "requests.jsonl", folder / "rewards.jsonl"
    names = Names(found, sample)
    log, bad = Log(found, sample, origin, names).write(*made)
    if bad.count:
        echo(f"note: {bad.count:,} rows are not in the log{bad.first}", err=True)
    draft = SlateDraft(found, names, log, files, sample, origin)
    trial = SlateTrial(found, log, folder, *made)
    placed = dict(zip(files, made, strict=True)) if files is not None else {}
    return Plan(draft, draft.found, Proposal(), lambda: trial.run(draft), placed)


def _move(made: Path, target: Path) -> None:
    try:
        shutil.move(made, target)
    except OSError as error:
        raise InputFileError(f"cannot write {target} ({error.strerror}); choose another place with -o") from error


def _profile(sample: Sample, rows: Rows, wanted: Wanted) -> Profile:
    """What the data seems to be.

    Raises:
        InputFileError: nothing that a model could use.
    """
    try:
        found = profile(
            sample.columns,
            rows.label,
            event_id=rows.event_id,
            time=rows.time_field,
            task=wanted.task,
            typed=sample.typed,
            time_form=rows.time_form,
            bare=_may_be_series(wanted),
        )
    except ProfileError as error:
        raise InputFileError(f"{rows.path}{', ' if str(error).startswith('column ') else ': '}{error}") from error
    return _without_text(found, rows.path) if task_of(found.target.task).draft.numbers_only else found


def _sorted_by_class(found: Profile, sample: Sample, label: str | None) -> bool:
    """Whether the rows are sorted by class, and no time says in which order they came."""
    classes = task_of(found.target.task).supervised and not task_of(found.target.task).labels.numeric
    return label is not None and classes and found.time is None and are_sorted(sample.columns[label])


def _plan(found: Profile, sample: Sample, origin: Origin, wanted: Wanted, tried: Path) -> Plan:
    """A forecast of series where the table holds such, else a prediction for each row.

    Args:
        tried: the file for the trial of models.
    """
    rows = origin.rows
    series = _series(found, sample, rows, wanted)
    if series is not None and rows.label is not None:
        ahead = AheadDraft(series, rows.label, found, sample, origin)
        fields = Fields(None, decimal=rows.decimal, time_form=rows.time_form)
        ahead_trial = AheadTrial(TableSource(rows.path, fields), sample, series)
        return Plan(ahead, ahead.found, Proposal(), lambda: _settled(ahead, ahead_trial.run(ahead)))
    past = propose(found, sample.columns, rows.label)
    draft = Draft(found, past, sample, origin)
    fields = Fields(rows.label, decimal=rows.decimal, time_form=rows.time_form)
    trial = Trial(TableSource(tried, fields, origin.label_delay_ms), sample, found, past, rows.label)
    notes = (
        *_of_order(rows, tried),
        *_of_series_predicted(found, sample, rows.label, wanted),
        *_of_items(found, sample, rows.label, wanted),
    )
    return Plan(draft, found, past, lambda: _settled(draft, trial.run(draft)), notes=notes)


def _settled(draft: Draft, result: Result | None) -> Result | None:
    """What a trial found, once it is in the draft."""
    if result is not None:
        draft.settle(result)
    return result


def _check_fields(sample: Sample, rows: Rows, task: TaskName | None) -> None:
    """The fields that are named are there, and the one to predict is named where the task needs it.

    Raises:
        InputFileError: they are not.
    """
    for option, name in (("--label", rows.label), ("--id", rows.event_id), ("--time", rows.time_field)):
        if name is not None:
            find_column(sample, option, name)
    if rows.label is None and task is not None and (task_of(task).supervised or task_of(task).ahead):
        what = "number to forecast" if task_of(task).ahead else "label"
        raise InputFileError(f"task {task} needs a {what}: name the field with --label FIELD")
    if rows.label is None and task is None:
        _ask_for_label(sample, rows)


def _series(found: Profile, sample: Sample, rows: Rows, wanted: Wanted) -> Found | None:
    """The series of a table whose numbers are forecast: where that is asked for, or nothing else is and it holds such.

    Labels that come later than their events are no observations.

    Raises:
        InputFileError: it is asked for, and there are none.
    """
    label, path = rows.label, rows.path
    if label is None or not task_of(found.target.task).labels.numeric or not _may_be_series(wanted):
        return None
    series = find_series(found, sample.columns, label, whole=sample.whole)
    if series is None and wanted.task is not None:
        raise InputFileError(
            f"{path}: no series of {label} at a regular step, at least 30 observations long; name the time with --time,"
            " and see docs/forecast.md for a file to begin with"
        )
    if series is None and not found.features:
        raise InputFileError(f"{path}: {without_features(found.left)}")
    return series


def _of_series_predicted(found: Profile, sample: Sample, label: str | None, wanted: Wanted) -> tuple[str, ...]:
    """That a table of series is predicted row by row, only because its labels come later."""
    if label is None or wanted.task is not None or not wanted.label_delay_ms:
        return ()
    if not task_of(found.target.task).labels.numeric:
        return ()
    series = find_series(found, sample.columns, label, whole=sample.whole)
    if series is None:
        return ()
    return (f"{series.described(label)}; --label-delay makes it a label: to forecast it instead, add --task forecast",)


def _of_order(rows: Rows, tried: Path) -> Iterator[str]:
    """That the trial was over other rows than a stream of this file would have."""
    if tried != rows.path:
        yield (
            f"the rows are sorted by {rows.label}, as a stream never is: the trial shuffled them. Shuffle the file "
            "before `backtest`, `train` and `produce`, or their figures mean nothing"
        )


def _of_items(found: Profile, sample: Sample, label: str | None, wanted: Wanted) -> tuple[str, ...]:
    """That rows with an item are predicted one by one, though they might be what was shown."""
    item = item_beside(sample, label) if label is not None and wanted.task is None else None
    if item is None or label is None or not task_of(found.target.task).labels.two_valued:
        return ()
    return (
        f"{item} names items, but nothing says that they were chosen to be shown (propensities, rows that share a "
        f"request): each row is predicted. If {label} is what an item earned that was shown, add --task recommend",
    )


def _may_be_series(wanted: Wanted) -> bool:
    """Whether a forecast is asked for, or neither another task nor labels that come later."""
    return task_of(wanted.task).ahead if wanted.task is not None else not wanted.label_delay_ms


def _without_words(sample: Sample, label: str | None) -> tuple[Sample, str]:
    """The sample without words for missing among the label's classes, as all commands read it, and those words."""
    cells = sample.columns.get(label or "", [])
    words = Counter(cell for cell in cells if isinstance(cell, str) and is_unlabelled(cell))
    if sample.typed or not words or len({*cells} - {None, *words}) < 2:
        return sample, ""
    columns = {**sample.columns, label or "": [None if cell in words else cell for cell in cells]}
    shown = ", ".join(f"{word!r} ({count:,})" for word, count in words.most_common(5))
    return replace(sample, columns=columns), shown


def _ask_for_label(sample: Sample, rows: Rows) -> None:
    """Without a label anomalies are scored, which is hardly meant where a field looks like one.

    Raises:
        InputFileError: one does.
    """
    columns = {name: cells for name, cells in sample.columns.items() if name not in (rows.event_id, rows.time_field)}
    if found := looks_like_label(columns):
        named = ", ".join(f"{name} ({why})" for name, why in list(found.items())[:10])
        raise InputFileError(
            f"{rows.path}: which field should be predicted? These look like labels: {named}. Choose one with --label "
            "FIELD; or use all fields as features and score anomalies: --task anomaly"
        )


def _slug(path: Path) -> str:
    stem = path.name.lower()
    for suffix in (".gz", ".csv", ".tsv", ".txt", ".jsonl", ".ndjson"):
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:60].strip("-") or "pipeline"


def _without_text(found: Profile, path: Path) -> Profile:
    """For a detector that takes numbers only."""
    kept = tuple(field for field in found.features if field.use in {"number", "boolean"})
    if not kept:
        raise InputFileError(f"{path}: no numeric field, and anomaly detectors need one; give --label")
    why = "text: anomaly detectors need numbers"
    texts = tuple(Left(field.name, "string", why) for field in found.features if field not in kept)
    return Profile(found.target, found.id, found.time, found.in_order, kept, found.left + texts)


def _check(text: str, name: str) -> None:
    """What is written must be right as it is."""
    try:
        read_pipeline(text)
    except PipelineError as error:
        if any(problem.path == "pipeline" for problem in error.problems):
            raise InputFileError(
                f"--name {name}: use lower-case letters, digits, '.', '_' and '-', at most 100"
            ) from error
        raise InvariantError(
            f"the generated file is invalid; please report this with the data's header: {error}"
        ) from error


def _exists(output: Path) -> InputFileError:
    return InputFileError(f"{output} already exists; choose another name with -o, or overwrite it with --force")


def _write(text: str, output: Path, force: bool) -> None:
    if str(output) == "-":
        sys.stdout.write(text)
        return
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise _exists(output) from None
    except OSError as error:
        raise InputFileError(f"cannot write {output} ({error.strerror}); choose another place with -o") from error


def _print_notes(plan: Plan, sample: Sample, origin: Origin) -> None:
    found, past, path, output = plan.found, plan.past, origin.rows.path, origin.output
    target = found.target
    count = len(found.features)
    _note(f"{output}: task {target.task}, {count} feature{'s' * (count != 1)}")
    if past.features:
        _note(f"history: {len(past.features)} more from past events and the labels known by then")
    for note in origin.labels.notes:
        _note(f"labels: {note}")
    for note in past.notes:
        _note(f"history: {note}")
    for place in sample.unnamed:
        _note(f"left out: column {place} has no name")
    for left in found.left:
        begin = f"WARNING: left out {left.name}, which" if left.leak else f"left out: {left.name}:"
        _note(f"{begin} {left.why}")
    for feature in found.features:
        if feature.note and feature.type == "number":
            _note(f"note: {feature.name}: {feature.note}")
    for array in sample.arrays:
        _note(f"left out: {array}: it holds arrays")
    for line in sample.bad.lines:
        _note(f"skipped: {path}, {line}")
    if sample.bad.count > len(sample.bad.lines):
        _note(f"skipped: {sample.bad.count - len(sample.bad.lines):,} more rows")
    if found.id is None and not task_of(target.task).slates:
        unique = [left.name for left in found.left if _tells_rows_apart(sample.columns[left.name])]
        named = f"; if {unique[0]} is a unique id, add --id {shlex.quote(unique[0])}" if unique else ""
        text = f"note: no field looks like an id, so `produce` numbers the rows of each file from 0{named}"
        _note(text)
    if found.time is not None and not found.follows and origin.rows.time_field is None:
        _note(
            f"note: {found.time} is taken for the event's time, though the rows are not in its order; if it is the "
            "time of something else, remove `time:` from the file or name another field with --time"
        )
    if found.untimed:
        _note(f"note: {found.untimed:,} rows have no readable time in {found.time}")


def _note(text: str) -> None:
    """A remark on one line, whatever names stand in it."""
    echo(escaped(text), err=True)


def _tells_rows_apart(cells: Sequence[object]) -> bool:
    return all(isinstance(cell, str | int) for cell in cells) and len(set(cells)) == len(cells)
