"""`driftline init` for logged recommendations: the log as requests and rewards, and the file of a pipeline for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

from msgspec.structs import replace

from driftline.author.contender import Contender
from driftline.author.logged import ITEMS_MAX, Logged
from driftline.author.past import Proposal
from driftline.author.sample import Sample
from driftline.cli.draft import Draft, Origin, beside, plain
from driftline.config import yaml_scalar
from driftline.core.duration import format_duration
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline, format_path, parse_pipeline
from driftline.core.task import UNLABELLED, task_of, tasks
from driftline.ingest.column import Fields
from driftline.ingest.gather import Gathered, Gathering, Places
from driftline.ingest.rows import Bad

_NOTE_WIDTH: Final = 110
_WAIT_MS: Final = 600_000  # for a click, where nothing else is known
_WAITS: Final = (1_000, 10_000, 60_000, 600_000)
_WAITS_SEEN: Final = 50  # that a log spans at least: what waits is not learned yet
_WARMUP_SHARE: Final = 0.2
_WARMUP_MAX: Final = 1_000
_TRIED_MAX: Final = 5_000  # requests, in a trial
_TRIED_MIN: Final = 1_000
_ESTIMATES_MAX: Final = 300_000  # of a reward, in a trial, by each policy
_ON_PAGE: Final = 8  # items of a catalogue on one line


@dataclass(frozen=True)
class Policy:
    """A policy to try.

    Args:
        name: in the table of a trial.
        note: a sentence about it, for the file.
        policy: as `recommend.policy` has it.
        lines: of the model.
        sees: whether the model sees what is known of a request, and `user` whether it sees who asks.
        baseline: it does not ask who is there.
    """

    name: str
    note: str
    policy: str
    lines: tuple[str, ...]
    sees: bool = True
    user: bool = False
    baseline: bool = False


def policies_for(found: Logged) -> list[Policy]:
    """What to try: first `popularity`, with which all others are compared, then what is written without a trial."""
    items = ("Popularity()",)
    popular = Policy(
        "popularity", "What earns most, whatever the request.", "popularity", items, sees=False, baseline=True
    )
    anything = Policy("uniform", "Anything.", "uniform", items, sees=False, baseline=True)
    alone = Policy(
        "thompson of items alone", "What may earn most, whatever the request.", "thompson", items, sees=False
    )
    if found.found.features:
        lines = _linear(found)
        note = "A linear model of each item's reward over the request"
        seen = [
            Policy("thompson linear", f"{note}; it shows what may be best, as often as it may.", "thompson", lines),
            Policy("linucb linear", f"{note}; it shows what could be best.", "linucb", lines),
            Policy("greedy linear", f"{note}; it shows what seems best.", "epsilon_greedy", lines),
        ]
    else:
        seen = []
    if found.user is not None:
        note = "Factors of users and of items, whose products are what an item earns of a user."
        model = ("BiasedMF()",)
        seen.append(Policy("greedy factors", note, "epsilon_greedy", model, sees=False, user=True))
    return [popular, *seen[:1], alone, *seen[1:], anything]


def _linear(found: Logged) -> tuple[str, ...]:
    numbers = [one.name for one in found.found.features if one.use in ("number", "boolean")]
    texts = [one.name for one in found.found.features if one.use not in ("number", "boolean")]
    if not texts:
        return ("StandardScaler() | LinearItems()",)
    if not numbers:
        return ("LinearItems()",)  # text makes columns of its own
    scaled, named = (", ".join(map(repr, names)) for names in (numbers, texts))
    return (
        f"((Select({scaled}) | StandardScaler())",
        f" + (Select({named}) | OneHotEncoder(drop_zeros=True)))",
        "| LinearItems()",
    )


class Log:
    """A table of logged recommendations as the two files that a backtest reads.

    Args:
        requests, rewards: where they go.
    """

    def __init__(self, found: Logged, sample: Sample, origin: Origin, names: Names) -> None:
        self._found, self._sample, self._origin, self._names = found, sample, origin, names

    def write(self, requests: Path, rewards: Path) -> tuple[Gathered, Bad]:
        """Write them.

        Raises:
            InputFileError: the table cannot be read, or has no request.
        """
        found, names, rows = self._found, self._names, self._origin.rows
        pipeline = self._reader()
        positive = found.target.positive if found.target is not None else None
        positive = positive if isinstance(positive, str) else None  # a number is what was earned
        places = Places(
            names.path(found.reward), positive, None if found.item is None else names.path(found.item),
            None if found.listed is None else names.path(found.listed),
            None if found.propensity is None else names.path(found.propensity),
            names.id, names.item, names.value, names.time, names.shown,
        )  # fmt: skip
        fields = Fields(None, None, None, decimal=rows.decimal, time_form=rows.time_form)
        kept = {one.name for one in found.found.features} | {found.user}
        wanted = {name: one for name, one in pipeline.event.read.items() if name in kept}
        gathering = Gathering(rows.path, pipeline, fields, places, wanted)
        items = max(found.slate, len(found.items))
        head = max(_TRIED_MIN, min(_TRIED_MAX, _ESTIMATES_MAX // items))
        made = gathering.write(requests, rewards, delay_ms=self._origin.label_delay_ms, head=head)
        if not made.requests:
            raise InputFileError(f"{rows.path}: no row holds a request and an item that was shown{gathering.bad.first}")
        return made, gathering.bad

    def _reader(self) -> Pipeline:
        """What reads a row."""
        found, names, columns = self._found, self._names, self._sample.columns
        features: dict[str, Any] = {
            one.name: {"path": names.path(one.name), "type": one.type, "missing": "omit"}
            for one in found.found.features
        }
        if found.item is not None:
            features[found.item] = {"path": names.path(found.item), "type": type_of(columns[found.item])}
            features[found.reward] = {"path": names.path(found.reward), "type": self._reward_type(), "missing": "omit"}
        if found.propensity is not None:
            features[found.propensity] = {"path": names.path(found.propensity), "type": "number", "missing": "omit"}
        if found.user is not None:
            kind = type_of(columns[found.user])
            features[found.user] = {"path": names.path(found.user), "type": kind, "missing": "omit"}
        if not any(one["type"] in ("number", "boolean") for one in features.values()):
            features["driftline_none"] = {"type": "number", "missing": "omit"}
        event: dict[str, Any] = {"id": names.id, "features": features}
        if found.found.time is not None:
            event["time"] = names.time
        form = {"pipeline": "rows", "task": UNLABELLED, "event": event, "model": task_of(UNLABELLED).draft.model}
        return parse_pipeline(form, spare=True)

    def _reward_type(self) -> str:
        cells = [cell for cell in self._sample.columns[self._found.reward] if cell is not None]
        return "boolean" if all(isinstance(cell, bool) for cell in cells) else type_of(cells)


def type_of(cells: Any) -> str:
    """The type of a field that holds ids or rewards."""
    return "string" if any(isinstance(cell, str) for cell in cells) else "number"


class Names:
    """Where things are in requests and rewards, as paths.

    Attributes:
        id, time: of a request and of its rewards.
        item, value: of a reward.
        shown: of a request that was logged.
        candidates: of a request; None where each chooses from the catalogue.
    """

    def __init__(self, found: Logged, sample: Sample) -> None:
        self._typed, taken = sample.typed, {*sample.columns, *sample.arrays}
        self.id = self.path(found.request) if found.request is not None else _free("request_id", taken)
        self.time = self.path(found.found.time) if found.found.time is not None else _free("time", taken)
        self.item = self.path(found.item) if found.item is not None else _free("item", taken)
        self.value = self.path(found.reward) if found.item is not None else _free("reward", taken)
        shown = found.kind == "clicked" and found.listed is not None
        self.shown = self.path(str(found.listed)) if shown else _free("shown", taken)
        listed = found.kind == "chosen" and found.listed is not None
        self.candidates = self.path(str(found.listed)) if listed else None

    def path(self, field: str) -> str:
        return field if self._typed else format_path((field,))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


class SlateDraft(Draft):
    """The text of a pipeline file for slates.

    Args:
        log: what was written of the table.
    """

    def __init__(
        self,
        found: Logged,
        names: Names,
        log: Gathered,
        files: tuple[Path, Path] | None,
        sample: Sample,
        origin: Origin,
    ) -> None:
        super().__init__(found.found, Proposal(), sample, origin)
        self.found = found.found
        self._logged, self._names, self._log, self._files = found, names, log, files
        self.policies = policies_for(found)
        self._policy = self.policies[1]
        self._verdict: tuple[str, ...] = ()

    def _first(self) -> Contender:
        return Contender("", "", ())  # of slates a policy is written, and not a model alone

    @property
    def label_delay_ms(self) -> int:
        """How much later than its request a reward came."""
        return self._origin.label_delay_ms

    @property
    def notes(self) -> tuple[str, ...]:
        found, log = self._logged, self._log
        seen = f"{'; '.join(found.seen)}: taken for recommendations that were logged; to predict each row, add "
        other = found.target.task if found.target is not None else next(t.name for t in tasks() if t.labels.textual)
        notes = [f"{seen}--task {other}"]
        if found.request is None:
            notes.append("no field names requests, so each row is one; if rows share one, name it with --id FIELD")
        if self._files is not None:
            names = " and ".join(str(path) for path in self._files)
            notes.append(
                f"{names}: {log.requests:,} requests that showed {log.items:,} items, and {log.rewards:,} rewards; "
                f"{log.earned / log.requests:.4g} a request"
            )
        if len(log.shown) > ITEMS_MAX and self._names.candidates is None:
            notes.append(
                f"{len(log.shown):,} items were shown: the catalogue holds the {ITEMS_MAX:,} that were shown most; put "
                "the candidates of a request into the request (recommend.candidates)"
            )
        return tuple(notes)

    def text_of(self, policy: Policy) -> str:
        """The file with that policy."""
        before, self._policy = self._policy, policy
        text = self.text()
        self._policy = before
        return text

    def decide(self, policy: Policy, verdict: tuple[str, ...]) -> None:
        """Write a policy, and why."""
        self._policy, self._verdict = policy, verdict

    def _lines(self) -> Iterator[str]:
        yield from self._head()
        yield from self._event()
        yield from self._label_section()
        yield from self._recommend()
        yield from self._rest()

    def _head(self) -> Iterator[str]:
        file, name = self._origin.file, plain(self._origin.rows.path.name)
        yield f"# Written by `driftline init` from {name}, a log of what was shown. Review it, then:"
        yield f"#   driftline check -p {file}"
        sent: tuple[str, ...] = ()
        if self._files is not None:
            events, labels = (plain(shlex.quote(path.name)) for path in self._files)
            yield f"#   driftline backtest -p {file} --events {events} --labels {labels} \\"
            yield "#     --grid recommend.policy=thompson,popularity,uniform"
            yield f"#   driftline train -p {file} --events {events} --labels {labels} -o {self._origin.name}.model"
            sent = (f"#   driftline produce -p {file} --input {events} --labels {labels}",)
        yield f"#   driftline topics create -p {file} --retention unlimited"
        yield f"#   driftline worker -p {file}"
        yield from sent
        yield ""
        yield f"pipeline: {self._origin.name}"
        yield beside("task: recommend", f"{self._logged.reward} is what an item earned")
        yield beside("seed: 42", "of exploration: with a request's id, it says what is drawn")
        yield ""

    def _event(self) -> Iterator[str]:
        found, names = self._logged, self._names
        yield "event:"
        yield beside(f"  id: {yaml_scalar(names.id)}", "of the request: yours; rewards name it")
        when = "" if found.found.time is not None else "the log has none: each row counts as 1s later"
        yield beside(f"  time: {yaml_scalar(names.time)}", when)
        whole = self._found
        sees = {one.name for one in whole.features} if self._policy.sees else set()
        left = {one.name: one for one in whole.left}
        columns = [
            name for name in self._sample.columns if name in left or name in {one.name for one in whole.features}
        ]
        used = bool(sees or self._policy.user or names.candidates)
        yield beside("  features:" if used else "  features: {}", "what is known of a request before it is answered")
        features = {one.name: one for one in whole.features}
        for name in columns:
            if name in sees:
                yield self._feature(replace(features[name], fill=None) if not features[name].fill else features[name])
            elif name in features:
                yield beside(
                    f"    # {plain(yaml_scalar(name))}: {features[name].type}", "left out: the model sees items"
                )
            elif name == found.user and self._policy.user:
                yield f"    {yaml_scalar(name)}: {self._as_written(name, type_of(self._sample.columns[name]))}"
            else:
                yield self._left(left[name])
        if names.candidates is not None:
            line = f"    {yaml_scalar(str(found.listed))}: {self._as_written(str(found.listed), 'items')}"
            yield beside(line, "the candidates: a list of item ids")
        yield ""

    def _as_written(self, name: str, kind: str) -> str:
        path = self._names.path(name)
        return kind if path == name else yaml_scalar({"path": path, "type": kind})

    def _label_section(self) -> Iterator[str]:
        names = self._names
        yield "label:"
        yield beside(f"  id: {yaml_scalar(names.id)}", "the request")
        yield beside(f"  item: {yaml_scalar(names.item)}", "the item that earned something")
        yield beside(f"  value: {yaml_scalar(names.value)}", "how much: a number, or true for 1")
        yield f"  time: {yaml_scalar(names.time)}"
        wait = f"  wait: {format_duration(self._wait_ms())}"
        yield beside(wait, "how long a reward may take; then a request is learned")
        yield ""

    def _wait_ms(self) -> int:
        if self._origin.label_delay_ms:
            return 2 * self._origin.label_delay_ms
        span_ms = self._log.last_ms - self._log.first_ms
        return max((one for one in _WAITS if one * _WAITS_SEEN <= span_ms), default=_WAITS[0])

    def _recommend(self) -> Iterator[str]:
        found, policy = self._logged, self._policy
        yield "recommend:"
        if self._names.candidates is not None:
            yield beside(f"  candidates: {yaml_scalar(str(found.listed))}", "of each request")
        else:
            items = sorted(item for item, _ in self._log.shown.most_common(ITEMS_MAX))
            yield beside("  catalogue:", "every item that was shown; remove those that are not there any more")
            yield from (f"    - {yaml_scalar(item)}" for item in items)
        yield beside(f"  slate: {found.slate}", "items a request, as in the log")
        if policy.user:
            yield f"  user: {yaml_scalar(str(found.user))}"
        if self._names.shown != "shown":
            yield beside(f"  shown: {self._names.shown}", "where the log has what was shown")
        yield f"  policy: {policy.policy}"
        yield beside("  epsilon: 0.05", "share shown at random, so that every other policy can be judged from the log")
        yield ""
        yield from (f"# {plain(line)}".rstrip() for line in self._verdict)
        yield from (f"# {line}" for line in wrap(policy.note, _NOTE_WIDTH))
        yield "model: |"
        yield from (f"  {line}" for line in policy.lines)
        yield ""

    def _rest(self) -> Iterator[str]:
        yield "drift:"
        yield beside("  error: ADWIN(delta=0.002)", "alert when slates earn less")
        warmup = min(_WARMUP_MAX, max(50, int(self._log.requests * _WARMUP_SHARE) // 50 * 50))
        yield beside(f"  warmup_labels: {warmup}", "requests until then")
