"""The text of the pipeline file that `driftline init` writes, with a comment beside every choice."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from textwrap import wrap

from driftline.author.contender import Contender, contenders
from driftline.author.joining import NOT_JOINED, Joined
from driftline.author.limits import LABELS_MIN, RATIO_MAX, Jumps, around, quantile, step_of_rows
from driftline.author.past import Proposal
from driftline.author.profile import Field, Left, Profile
from driftline.author.sample import Sample
from driftline.cli.option import Rows
from driftline.cli.selection import Result
from driftline.config import yaml_scalar
from driftline.core.duration import format_duration
from driftline.core.pipeline import format_path, parse_path
from driftline.core.task import task_of
from driftline.core.task.seen import RARE

_NOTE_WIDTH = 110
_LINE_MAX = 20_000
_WARMUP = 5_000  # the default of drift.warmup_labels
_WARMUP_SHARE = 0.2  # of the labels that there are
_WAIT_MS = 7 * 86_400_000
_WORDS_DETECTOR = "ADWIN(delta=0.05)"  # few messages of a new kind are much of what a person fears
_STRING_MAX = 500  # half of what limits.string_max allows by default


@dataclass(frozen=True)
class Origin:
    """What a pipeline file is written from and where to; its first lines repeat it as commands.

    Args:
        rows: the data file; without a label, anomalies are scored.
        name: the pipeline's.
        output: the pipeline file.
        label_delay_ms: how much later than its event a label comes.
        labels: those that stood in a file of their own.
    """

    rows: Rows
    name: str
    output: Path
    label_delay_ms: int
    labels: Joined = NOT_JOINED

    @property
    def file(self) -> str:
        """The pipeline file, as commands name it."""
        return plain(shlex.quote(self.output.name)) if str(self.output) != "-" else f"{self.name}.yaml"

    @property
    def input(self) -> str:
        """The data file and the options by which `produce` reads it."""
        rows = self.rows
        options = [f"--input {shlex.quote(rows.path.name)}"]
        if rows.label:
            options.append(f"--label {shlex.quote(rows.label)}")
        if rows.decimal is not None:
            options.append(f"--decimal {rows.decimal}")
        if rows.time_form is not None:
            options.append(f"--time-format {shlex.quote(rows.time_form.name)}")
        if self.label_delay_ms:
            options.append(f"--label-delay {format_duration(self.label_delay_ms)}")
        return " ".join(options)


class Draft:
    """The text of a pipeline file.

    Args:
        found: what the data seems to be.
        past: history features for it.
        sample: the data's first rows.
    """

    _computed = "of past events and of labels known by then"

    def __init__(self, found: Profile, past: Proposal, sample: Sample, origin: Origin) -> None:
        self._found = found
        self._past = past
        self._task = task_of(found.target.task)
        self._sample = sample
        self._origin = origin
        self._label = origin.rows.label
        self._contender = self._first()
        self._result: Result | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the file."""
        return ()

    def _first(self) -> Contender:
        """What is written without a trial."""
        return contenders(self._found, self._past)[0]

    def text(self) -> str:
        """The file as it stands."""
        return "".join(f"{line}\n" for line in self._lines())

    def text_with(self, contender: Contender) -> str:
        """The file with that model."""
        before, self._contender = self._contender, contender
        text = self.text()
        self._contender = before
        return text

    def settle(self, result: Result) -> None:
        """Write what a trial chose, and how it came about."""
        self._result = result
        self._contender = result.contender

    def _lines(self) -> Iterator[str]:
        yield from self._head()
        yield from self._event()
        yield from self._label_section()
        yield from self._model()
        yield from self._guard()
        yield from self._rest()

    def _head(self) -> Iterator[str]:
        rows = f"{self._sample.rows:,} rows" if self._sample.whole else f"the first {self._sample.rows:,} rows"
        file = self._origin.file
        yield f"# Written by `driftline init` from {rows} of {plain(self._origin.rows.path.name)}. Review it, then:"
        yield f"#   driftline check -p {file}"
        yield f"#   driftline topics create -p {file}"
        yield plain(f"#   driftline produce -p {file} {self._origin.input}")
        yield f"#   driftline worker -p {file}"
        yield ""
        yield f"pipeline: {self._origin.name}"
        seen = f"the label holds {self._found.target.seen}" if self._found.target.seen else "no label"
        yield beside(f"task: {self._found.target.task}", seen)
        yield "seed: 42"
        yield ""

    def _path_text(self, field: str) -> str:
        """How a file names the place of a field: the columns of a CSV file are keys, unless they look like paths."""
        if self._sample.typed:
            return field
        try:
            parts = parse_path(field)
        except ValueError:
            return format_path((field,))
        return field if "\\" not in field and all(str(part).strip() for part in parts) else format_path((field,))

    def _event(self) -> Iterator[str]:
        yield "event:"
        text = "unique; an event with a known id is a duplicate"
        counted = "no field is unique, so `driftline produce` numbers the rows"
        yield beside(f"  id: {yaml_scalar(self._id())}", text if self._found.id else counted)
        if self._found.time is None:
            yield beside("  # time: FIELD", "no field holds times, so the Kafka record's time is used")
        else:
            order = "" if self._found.in_order else "; the rows are not in this order"
            if self._found.time_form.name:
                order += f"; format {self._found.time_form.name} here, which `produce` turns into epoch ms"
            yield beside(f"  time: {yaml_scalar(self._path_text(self._found.time))}", f"event time{order}")
        yield from self._hour()
        context = (*self._past.context, *(self._result.context if self._result is not None else ()))
        if context:
            paths = {name: self._path_text(name) for name in context}
            read = {name: "key" if path == name else {"path": path, "type": "key"} for name, path in paths.items()}
            yield beside(f"  context: {yaml_scalar(read)}", "ids by which the past is kept; no features")
        yield beside("  features:", "in the order in which the model gets them")
        features = {field.name: field for field in self._found.features}
        left = {one.name: one for one in self._found.left}
        for column in self._sample.columns:
            if column in features:
                yield self._feature(features[column])
            elif column in left:
                yield self._left(left[column])
        for array in self._sample.arrays:
            yield beside(f"    # {plain(array)}: ...", "left out: it holds arrays")
        computed = {**self._past.features, **(self._result.features if self._result is not None else {})}
        if computed:
            yield f"    # {self._computed} (docs/history.md):"
        for name, form in computed.items():
            yield f"    {yaml_scalar(name)}: {yaml_scalar(form)}"
        yield ""

    def _hour(self) -> Iterator[str]:
        """The hour of the day, where the event's time is a date."""
        yield from ()

    def _feature(self, field: Field) -> str:
        path = self._path_text(field.name)
        written: dict[str, object] = {"type": field.type}
        if path != field.name:
            written = {"path": path, **written}
        if field.name in self._sample.texts and field.type == "number":
            written["text"] = "comma" if self._sample.texts[field.name] == "," else True
        if field.fill is not None:
            written["missing"] = {"value": field.fill} if field.fill in ("reject", "omit") else field.fill
        line = f"    {yaml_scalar(field.name)}: {yaml_scalar(written if len(written) > 1 else field.type)}"
        notes = [note for note in (field.note, "missing in some rows" if field.fill is not None else "") if note]
        return beside(line, "; ".join(notes))

    def _left(self, one: Left) -> str:
        return beside(f"    # {plain(yaml_scalar(one.name))}: {one.type}", f"left out: {one.why}")

    def _id(self) -> str:
        if self._found.id is not None:
            return self._path_text(self._found.id)
        return next(name for name in ("id", "event_id", "row_id", "driftline_id") if name not in self._sample.columns)

    def _label_section(self) -> Iterator[str]:
        target = self._found.target
        if self._label is None:
            return
        yield "label:"
        yield beside(f"  id: {yaml_scalar(self._id())}", "the id of the label's event")
        yield f"  value: {yaml_scalar(self._path_text(self._label))}"
        if self._label in self._sample.texts:
            yield f"  text: {'comma' if self._sample.texts[self._label] == ',' else 'true'}"
        if target.positive is not None:
            yield beside(f"  positive: {yaml_scalar(target.positive)}", "the positive class")
            yield beside(f"  negative: {yaml_scalar(target.negative)}", "the negative class; other values are rejected")
        joined = self._origin.labels
        wait = format_duration(max(_WAIT_MS, 2 * self._origin.label_delay_ms, joined.slow_ms))
        yield beside(f"  wait: {wait}", "how long to wait for a label; later ones are not learned")
        if joined.assumed is not None:
            missing = yaml_scalar({"assume": joined.assumed})
            yield beside(f"  missing: {missing}", "if none arrives: only one class is ever labelled")
        else:
            yield beside("  missing: drop", "if none arrives: skip the event, or {assume: VALUE}")
        yield ""

    def _model(self) -> Iterator[str]:
        if self._result is not None:
            yield from (f"# {plain(line, _LINE_MAX)}".rstrip() for line in self._result.comment())
        yield from (f"# {line}" for line in wrap(self._contender.note, _NOTE_WIDTH))
        yield "model: |"
        yield from (f"  {line}" for line in self._contender.lines)
        yield ""
        threshold, why = self._task.draft.threshold, "scores from this on are decided positive"
        if threshold is not None and self._result is not None and self._result.threshold is not None:
            threshold, f1 = f"{self._result.threshold[0]:.2g}", self._result.threshold[1]
            why += f"; this one had the best F1 of the trial, {f1:.3f}"
        if threshold is not None:
            yield beside(f"# decision: {{threshold: {threshold}}}", why)
        rare = self._found.target.rare
        if threshold is not None and 0 < rare < RARE:
            yield beside("# decision: {budget: 100, per: 1d}", "or the highest scores, at most so many a day")
        metrics = self._task.draft.metrics(rare, self._label is not None)
        if metrics:
            note = f"{rare:.1%} are of the rarer class, so accuracy would mislead" if 0 < rare < RARE else ""
            yield beside(f"metrics: [{', '.join(metrics)}]", note)
        yield ""

    def _guard(self) -> Iterator[str]:
        learns = "labels" if self._task.supervised else "events"
        yield "guard:"
        series = self._series()
        if series is not None:
            yield beside(f"  by: {yaml_scalar(list(series[0]))}", "fields that tell one series from another")
        untrained = yaml_scalar({"labels_min": LABELS_MIN, "action": "flag"})
        yield beside(f"  untrained: {untrained}", f"mark the scores of a model that has learned fewer {learns}")
        target = self._found.target
        if self._task.labels.numeric and self._label is not None and isfinite(target.most - target.least):
            low, high = around(target.least, target.most)
            limits = yaml_scalar({"min": low, "max": high, "action": "clip" if series is None else "fallback"})
            yield beside(f"  range: {limits}", "twice as wide as the labels that were seen; nothing beyond is served")
        if series is not None:
            step = yaml_scalar({"ratio_max": series[1].ratio, "tolerance": series[1].tolerance, "action": "fallback"})
            yield beside(f"  step: {step}", series[1].why)
            last = yaml_scalar(["last_value", {"value": self._usual()}])
            yield beside(
                f"  fallback: {last}", "of the series what was last accepted, or its last label; else the median"
            )
        yield ""

    def _series(self) -> tuple[tuple[str, ...], Jumps] | None:
        """Which fields tell series of the label apart, and how far it jumps within one; None where nothing says so."""
        groups, columns = self._past.groups, self._sample.columns
        declared = {field.name for field in self._found.features} | {*self._past.context}
        by = next((group for group in groups if group and declared.issuperset(group)), None)
        if not self._task.labels.numeric or self._label is None or by is None or not self._found.in_order:
            return None
        jumps = step_of_rows(zip(*[columns[name] for name in by], strict=True), columns[self._label])
        return None if jumps is None or jumps.ratio > RATIO_MAX else (by, jumps)

    def _usual(self) -> float:
        """The median of the labels."""
        cells = self._sample.columns[self._label] if self._label is not None else []
        return quantile([float(cell) for cell in cells if isinstance(cell, int | float) and isfinite(cell)], 0.5)

    def _rest(self) -> Iterator[str]:
        if not self._task.supervised:
            yield "drift:"
            yield beside("  score: ADWIN()", "alert when scores change")
        elif self._found.target.rare and self._found.target.rare < RARE:
            yield "drift:"
            yield beside("  error: none", "not meaningful for a rare class")
            yield beside("  loss: ADWIN(delta=0.002)", "alert when the log loss of predictions rises")
        else:
            yield "drift:"
            yield beside("  error: ADWIN(delta=0.002)", "alert when the error of predictions rises")
        labels = sum(cell is not None for cell in self._sample.columns[self._label]) if self._label else 0
        if self._sample.whole and self._label and labels < 2 * _WARMUP:
            note = f"{_WARMUP:,} by default, but the data has {labels:,} labels"
            yield beside(f"  warmup_labels: {max(50, int(labels * _WARMUP_SHARE) // 50 * 50)}", note)
        texts = {field.name: _WORDS_DETECTOR for field in self._found.features if field.type == "text"}
        if texts:
            yield beside(f"  features: {yaml_scalar(texts)}", "alert when texts use new words, before labels come")
        number = next((field.name for field in self._found.features if field.type == "number"), None)
        if number is not None and not texts:
            watched = "{" + f"{yaml_scalar(number)}: ADWIN()" + "}"
            yield beside(f"  # features: {watched}", "alert when a feature changes, before labels arrive")
        longest = max(
            (self._longest(field.name) for field in self._found.features if field.type == "string"), default=0
        )
        if longest > _STRING_MAX:
            bound = -(-2 * longest // 1_000) * 1_000
            yield ""
            yield beside(f"limits: {{string_max: {bound}}}", f"the longest text has {longest:,} characters")

    def _longest(self, name: str) -> int:
        return max((len(cell) for cell in self._sample.columns[name] if isinstance(cell, str)), default=0)


def beside(line: str, note: str) -> str:
    """A line with a comment beside it, in a column of its own where there is room."""
    return f"{line:<33} # {plain(note)}" if note else line


def plain(text: str, most: int = 200) -> str:
    """Text for a comment: on one line, whatever the data held."""
    return "".join(character if character.isprintable() else "?" for character in text)[:most]
