"""`driftline init`: a pipeline file for a data file, for someone who knows the data and not River.

It looks at the first rows (see `author.profile`), tries a handful of models and baselines on them (`cli.selection`),
and writes a file that `driftline check` accepts, with a comment beside every choice.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from driftline.author.past import Proposal, propose
from driftline.author.profile import Left, Profile, ProfileError, looks_like_label, profile, without_features
from driftline.author.sample import Sample, find_column, read_sample
from driftline.author.series import Found, find_series
from driftline.cli.ahead import AheadDraft, AheadTrial
from driftline.cli.draft import Draft
from driftline.cli.echo import echo, show
from driftline.cli.selection import Trial
from driftline.config import read_pipeline
from driftline.core.error import InputFileError, InvariantError, PipelineError
from driftline.core.number import Decimal, is_unlabelled
from driftline.core.task import TaskName, task_of
from driftline.core.timestamp import TimeForm
from driftline.core.wording import escaped
from driftline.ingest.history import TableSource
from driftline.ingest.table import Fields

_ROWS_MIN = 10


def init(
    path: Path,
    label: str | None,
    event_id: str | None,
    time_field: str | None,
    decimal: Decimal | None,
    time_form: TimeForm | None,
    task: TaskName | None,
    name: str | None,
    output: Path | None,
    force: bool,
    label_delay_ms: int,
    tried: bool,
    as_json: bool,
) -> None:
    """What `driftline init` does."""
    sample = read_sample(path, decimal=decimal)
    if sample.rows < _ROWS_MIN:
        raise InputFileError(
            f"{path} has {sample.rows} row{'s' * (sample.rows != 1)}, which is too few; give at least "
            f"{_ROWS_MIN}{sample.bad.first}"
        )
    _check_fields(sample, path, label, event_id, time_field, task)
    sample, unlabelled = _without_words(sample, label)
    try:
        found = profile(
            sample.columns,
            label,
            event_id=event_id,
            time=time_field,
            task=task,
            typed=sample.typed,
            time_form=time_form,
            bare=_may_be_series(task, label_delay_ms),
        )
    except ProfileError as error:
        raise InputFileError(f"{path}{', ' if str(error).startswith('column ') else ': '}{error}") from error
    if task_of(found.target.task).draft.numbers_only:
        found = _without_text(found, path)
    name = name or _slug(path)
    output = output or Path(f"{name}.yaml")
    if not force and str(output) != "-" and output.exists():
        raise _exists(output)
    stated = _stated(decimal, time_form)
    series = _series(found, sample, label, task, label_delay_ms, path)
    draft: Draft
    trial: Trial | AheadTrial
    if series is not None and label is not None:
        past = Proposal()
        draft = AheadDraft(series, found, sample, path, label, name, output, stated)
        found = draft.found
        fields = Fields(None, decimal=decimal, time_form=time_form)
        trial = AheadTrial(TableSource(path, fields), sample, series)
    else:
        past = propose(found, sample.columns, label)
        draft = Draft(found, past, sample, path, label, name, output, stated, label_delay_ms)
        fields = Fields(label, decimal=decimal, time_form=time_form)
        trial = Trial(TableSource(path, fields, label_delay_ms), sample, found, past, label)
    _check("".join(f"{line}\n" for line in draft.lines()), name)
    result = trial.run(draft) if tried and label is not None else None  # type: ignore[arg-type]  # each its own draft
    if result is not None:
        draft.settle(result)
    text = "".join(f"{line}\n" for line in draft.lines())
    _check(text, name)
    written = {"pipeline": name, "task": found.target.task, "file": str(output), "text": text}
    document = written | {"trial": result.document() if result is not None else None}
    if as_json and str(output) == "-":
        show(document, tuple, as_json=True)
    else:
        _write(text, output, force)
        show(document, tuple, as_json=as_json)
    if unlabelled:
        echo(f"note: these values of {label} count as missing: {unlabelled}", err=True)
    _print_notes(found, past, sample, path, output)
    notes = draft.notes or _of_series_predicted(found, sample, label, task, label_delay_ms)
    for note in notes:
        _note(f"note: {note}")
    for line in result.lines() if result is not None else ():
        echo(line, err=True)
    if str(output) != "-":
        echo(f"Review the file, then: driftline check -p {output}", err=True)


def _check_fields(
    sample: Sample, path: Path, label: str | None, event_id: str | None, time: str | None, task: TaskName | None
) -> None:
    """The fields that are named are there, and the one to predict is named where the task needs it.

    Raises:
        InputFileError: they are not.
    """
    for option, field in (("--label", label), ("--id", event_id), ("--time", time)):
        if field is not None:
            find_column(sample, option, field)
    if label is None and task is not None and (task_of(task).supervised or task_of(task).ahead):
        what = "number to forecast" if task_of(task).ahead else "label"
        raise InputFileError(f"task {task} needs a {what}: name the field with --label FIELD")
    if label is None and task is None:
        _ask_for_label(sample, path, event_id, time)


def _series(
    found: Profile, sample: Sample, label: str | None, task: TaskName | None, label_delay_ms: int, path: Path
) -> Found | None:
    """The series of a table whose numbers are forecast: where that is asked for, or nothing else is and it holds such.

    Labels that come later than their events are no observations.

    Raises:
        InputFileError: it is asked for, and there are none.
    """
    if label is None or not task_of(found.target.task).labels.numeric or not _may_be_series(task, label_delay_ms):
        return None
    series = find_series(found, sample.columns, label, whole=sample.whole)
    if series is None and task is not None:
        raise InputFileError(
            f"{path}: no series of {label} at a regular step, at least 30 observations long; name the time with --time,"
            " and see docs/forecast.md for a file to begin with"
        )
    if series is None and not found.features:
        raise InputFileError(f"{path}: {without_features(found.left)}")
    return series


def _of_series_predicted(
    found: Profile, sample: Sample, label: str | None, task: TaskName | None, label_delay_ms: int
) -> tuple[str, ...]:
    """That a table of series is predicted row by row, only because its labels come later."""
    if label is None or task is not None or not label_delay_ms or not task_of(found.target.task).labels.numeric:
        return ()
    series = find_series(found, sample.columns, label, whole=sample.whole)
    if series is None:
        return ()
    return (f"{series.described(label)}; --label-delay makes it a label: to forecast it instead, add --task forecast",)


def _may_be_series(task: TaskName | None, label_delay_ms: int) -> bool:
    """Whether a forecast is asked for, or neither another task nor labels that come later."""
    return task_of(task).ahead if task is not None else not label_delay_ms


def _without_words(sample: Sample, label: str | None) -> tuple[Sample, str]:
    """The sample without words for missing among the label's classes, as all commands read it, and those words."""
    cells = sample.columns.get(label or "", [])
    words = Counter(cell for cell in cells if isinstance(cell, str) and is_unlabelled(cell))
    if sample.typed or not words or len({*cells} - {None, *words}) < 2:
        return sample, ""
    columns = {**sample.columns, label or "": [None if cell in words else cell for cell in cells]}
    shown = ", ".join(f"{word!r} ({count:,})" for word, count in words.most_common(5))
    return replace(sample, columns=columns), shown


def _ask_for_label(sample: Sample, path: Path, event_id: str | None, time: str | None) -> None:
    """Without a label anomalies are scored, which is hardly meant where a field looks like one.

    Raises:
        InputFileError: one does.
    """
    columns = {name: cells for name, cells in sample.columns.items() if name not in (event_id, time)}
    if found := looks_like_label(columns):
        named = ", ".join(f"{name} ({why})" for name, why in list(found.items())[:10])
        raise InputFileError(
            f"{path}: which field should be predicted? These look like labels: {named}. Choose one with --label "
            "FIELD; or "
            "use all fields as features and score anomalies: --task anomaly"
        )


def _stated(decimal: Decimal | None, time_form: TimeForm | None) -> str:
    """The options by which other commands read the file as well."""
    options = [f"--decimal {decimal}"] if decimal is not None else []
    if time_form is not None:
        options.append(f"--time-format {shlex.quote(time_form.name)}")
    return "".join(f" {one}" for one in options)


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


def _print_notes(found: Profile, past: Proposal, sample: Sample, path: Path, output: Path) -> None:
    target = found.target
    count = len(found.features)
    _note(f"{output}: task {target.task}, {count} feature{'s' * (count != 1)}")
    if past.features:
        _note(f"history: {len(past.features)} more from past events and the labels known by then")
    for note in past.notes:
        _note(f"history: {note}")
    for place in sample.unnamed:
        _note(f"left out: column {place} has no name")
    for left in found.left:
        begin = f"WARNING: left out {left.name}, which" if left.leak else f"left out: {left.name}:"
        _note(f"{begin} {left.why}")
    for array in sample.arrays:
        _note(f"left out: {array}: it holds arrays")
    for line in sample.bad.lines:
        _note(f"skipped: {path}, {line}")
    if sample.bad.count > len(sample.bad.lines):
        _note(f"skipped: {sample.bad.count - len(sample.bad.lines):,} more rows")
    if found.id is None:
        unique = [left.name for left in found.left if _tells_rows_apart(sample.columns[left.name])]
        named = f"; if {unique[0]} is a unique id, add --id {shlex.quote(unique[0])}" if unique else ""
        text = f"note: no field looks like an id, so `produce` numbers the rows of each file from 0{named}"
        _note(text)
    if found.untimed:
        _note(f"note: {found.untimed:,} rows have no readable time in {found.time}")


def _note(text: str) -> None:
    """A remark on one line, whatever names stand in it."""
    echo(escaped(text), err=True)


def _tells_rows_apart(cells: Sequence[object]) -> bool:
    return all(isinstance(cell, str | int) for cell in cells) and len(set(cells)) == len(cells)
