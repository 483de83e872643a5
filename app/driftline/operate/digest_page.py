"""A digest in words: its sections by role, and the four forms in which it is written.

Text of others (names, sentences, senders) is escaped in each form, so that it can neither end a line nor begin markup,
nor be an address that a reader's program makes a link of.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from hashlib import sha256
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from driftline.core.alert.kpi import span_text
from driftline.core.duration import round_span, spoken
from driftline.core.guard.beside import INSTEAD, worded
from driftline.core.metric.account import MICRO, UNSERVED
from driftline.core.timestamp import exactly, written
from driftline.core.wording import escaped, money, percent
from driftline.operate.digest import AUDIENCE, LISTED_MAX, AlertSeen, DigestRole, Gathered, KpiSum
from driftline.operate.incident import shard_of
from driftline.operate.sheet import plain, sheet

Format: TypeAlias = Literal["markdown", "html", "slack", "text", "email"]
_TIME: Final = "%Y-%m-%d %H:%M"
_GENERATIONS_MAX: Final = 20  # that are named


class Line(Struct, frozen=True):
    """A statement; `when` is in UTC, empty where it is of the whole span; `commands` are what can be done about it."""

    text: str
    when: str = ""
    grave: bool = False
    commands: tuple[str, ...] = ()


class Section(Struct, frozen=True):
    """What is stated of one thing, and the command that derives the figures again."""

    title: str
    lines: tuple[Line, ...]
    command: str


class Page(Struct, frozen=True):
    title: str
    subtitle: str
    sections: tuple[Section, ...]


_ALL: Final = ("decide", "kpi", "served", "labels", "metrics", "alerts", "done", "guard", "file")
SECTIONS: Final[dict[DigestRole | None, tuple[str, ...]]] = {
    None: _ALL,
    "operator": ("decide", "alerts", "done", "guard", "served", "file", "kpi"),
    "data_engineer": ("decide", "served", "labels", "alerts", "file", "done"),
    "data_scientist": ("decide", "metrics", "kpi", "alerts", "done", "labels", "guard", "file"),
    "domain_expert": ("decide", "kpi", "served", "alerts", "done"),
}

_LOOKS: Final[tuple[tuple[str, tuple[DigestRole, ...]], ...]] = (
    ("kpi", ("domain_expert", "data_scientist")),
    ("decision", ("domain_expert", "data_scientist")),
    ("guard", ("domain_expert", "data_scientist")),
    ("event", ("data_engineer", "data_scientist")),
    ("label", ("data_engineer", "data_scientist")),
    ("topics", ("data_engineer", "operator")),
    ("alerts", ("operator", "data_scientist")),
    ("digests", ("operator",)),
    ("learning", ("data_scientist", "data_engineer")),
    ("shards", ("operator", "data_scientist")),
    ("snapshot", ("operator",)),
    ("limits", ("operator",)),
    ("delivery", ("operator",)),
)
"""Who should review a change of the pipeline file, by the beginning of the key; of others, data scientists."""


def page_of(found: Gathered, file: str, role: DigestRole | None) -> Page:
    """The digest of what was gathered.

    Args:
        file: the pipeline file, as commands name it.
    """
    words = _Words(found, shlex.quote(file), role)
    span = f"{written(found.since_ms, _TIME)} to {written(found.until_ms, _TIME)} UTC, in event time"
    if found.cut:
        span += ". Records of that time have been deleted from the topics: the figures cover what is left"
    whom = f" for the {role.replace('_', ' ')}" if role else ""
    return Page(f"{found.pipeline.name}: digest{whom}", span, tuple(words.section(name) for name in SECTIONS[role]))


def _events(count: int) -> str:
    return f"{count:,} event{'s' * (count != 1)}"


class _Words:
    """The sections of one digest."""

    def __init__(self, found: Gathered, file: str, role: DigestRole | None) -> None:
        self._found = found
        self._file = file
        self._role = role

    def section(self, name: str) -> Section:
        makers: dict[str, tuple[str, Callable[[], Iterator[Line]], str]] = {
            "decide": ("To decide", self._decide, f"driftline status -p {self._file}"),
            "kpi": ("What it came to", self._kpi, self._sums()),
            "served": ("Served", self._served, self._jq("scores", f"select({self._event()}) | .guard")),
            "labels": ("Known by the end of the span", self._labels,
                       self._jq("outcomes", f"select({self._event()}) | .kind")),
            "metrics": ("Metrics", self._metrics, self._backtest()),
            "alerts": ("What changed", self._alerts,
                       f"driftline tail alerts --pretty -p {self._file} --from-beginning --timeout 5"),
            "done": ("What was done, and by whom", self._done, f"driftline status -p {self._file}"),
            "guard": ("What the guard stopped", self._guard,
                      self._jq("scores", f"select({self._event()} and .tripped) | .tripped[].rung")),
            "file": ("Changes of the pipeline file", self._changes, f"driftline verify -p {self._file}"),
        }  # fmt: skip
        title, lines, command = makers[name]
        stated = tuple(lines())
        return Section(title, stated or (Line("Nothing."),), command)

    def _event(self) -> str:
        return f".event_time_ms >= {self._found.since_ms} and .event_time_ms < {self._found.until_ms}"

    def _backtest(self) -> str:
        """It counts labels that came after the span as well."""
        since, until = (exactly(time_ms) for time_ms in (self._found.since_ms, self._found.until_ms))
        return f"driftline backtest -p {self._file} --against live --from {since} --to {until}"

    def _sums(self) -> str:
        """The known figure of each KPI."""
        known = f'{self._event()} and .label_time_ms and .label_time_ms < {self._found.until_ms} and .kind != "assumed"'
        if not self._found.kpis:
            return f"driftline check -p {self._file} --all"
        sums = []
        for name, form in self._found.pipeline.kpi.items():
            amount = ".value - .cost" if form.rising else ".cost"
            sums.append(f"(map(.kpi[{json.dumps(name)}] | select(.cost) | {amount}) | add)")
        program = f"map(select({known})) | [{', '.join(sums)}]"
        return f"driftline tail outcomes -p {self._file} --from-beginning --timeout 5 | jq -s {shlex.quote(program)}"

    def _jq(self, topic: str, program: str) -> str:
        tail = f"driftline tail {topic} -p {self._file} --from-beginning --timeout 5"
        return f"{tail} | jq -c '{program}' | sort | uniq -c"

    def _concerns(self, audience: Sequence[str]) -> bool:
        return self._role is None or AUDIENCE[self._role] in audience

    def _decide(self) -> Iterator[Line]:
        found = self._found
        ours = [one for one in found.open.values() if not one.acknowledged and self._concerns(one.audience)]
        for first, *others in self._of_one_signal(ours[-LISTED_MAX:]):
            text = f"{first.sentence}{_same_on(others, found.pipeline.name)} Open and not acknowledged."
            acknowledge = f"driftline control -p {self._file} acknowledge "
            names = [one.episode for one in (first, *others) if _is_plain(one.episode)]
            commands = tuple(acknowledge + shlex.quote(name) for name in names)
            yield Line(text, _when(first.time_ms), grave=True, commands=commands)
        if len(ours) > LISTED_MAX:
            yield Line(f"{len(ours) - LISTED_MAX:,} more alerts are open and not listed.", grave=True)
        if found.waiting:
            count = len(found.waiting)
            what = "1 prediction is held" if count == 1 else f"{count:,} predictions are held"
            first_ms = min(one.deadline_ms for one in found.waiting.values())
            text = f"{what} until a person decides; the first deadline is {_when(first_ms)} UTC."
            yield Line(text, grave=True, commands=(f"driftline review list -p {self._file}",))
        for change in found.changes[-LISTED_MAX:]:
            for who in sorted({one for key in change.keys for one in _looks(key)}):
                if self._role in (None, who) and change.shard == 0:
                    keys = ", ".join(key for key in change.keys if who in _looks(key))
                    yield Line(f"The {who.replace('_', ' ')} should review a change of {keys}.", _when(change.time_ms))

    def _of_one_signal(self, episodes: Sequence[AlertSeen]) -> list[list[AlertSeen]]:
        """Alerts about the same signal on several shards together: critical ones first, then the latest."""
        together: dict[str, list[AlertSeen]] = {}
        for one in sorted(episodes, key=lambda one: (one.severity != "critical", -(one.time_ms or 0), one.episode)):
            _, signal = _shard_and_signal(one.episode, self._found.pipeline.name)
            together.setdefault(f"{one.kind} {signal}", []).append(one)
        return list(together.values())

    def _kpi(self) -> Iterator[Line]:
        if not self._found.kpis:
            yield Line("The pipeline file has no `kpi`.")
        for name, made in self._found.kpis.items():
            form = self._found.pipeline.kpi[name]
            shown, unit = name.replace("_", " "), form.unit
            shown = shown[:1].upper() + shown[1:]
            kinds = ", ".join(counted_kind(kind, count) for kind, count in sorted(made.kinds.items()))
            yield Line(
                f"{shown}: {money(made.known_total / MICRO, unit)} known, from {made.known:,} events with a label"
                + (f" ({kinds})." if kinds else ".")
            )
            yield from self._unknown(shown, made, unit)
            for start_ms, (count, total) in sorted(made.by_span.items()):
                missed = [
                    f"{'below' if form.rising else 'above'} the {what} of {money(bound, unit)}"
                    for what, bound in (("limit", form.limit), ("target", form.target))
                    if bound is not None and (total < bound * MICRO if form.rising else total > bound * MICRO)
                ]
                text = f"{shown} {span_text(start_ms, form.span_ms)}: {money(total / MICRO, unit)}, {count:,} events"
                yield Line(text + (f"; {missed[0]}." if missed else "."), grave=bool(missed))

    def _unknown(self, shown: str, made: KpiSum, unit: str) -> Iterator[Line]:
        """What is not known, apart from what is."""
        found = self._found
        if made.assumed:
            amount = money(made.assumed_total / MICRO, unit)
            yield Line(f"{shown}, in addition: {amount} from {made.assumed:,} assumed labels.")
        if made.expired:
            amount = f"; {money(made.expired_total / MICRO, unit)} is estimated for {made.modelled:,} of them"
            text = f"{shown}, in addition: {made.expired:,} events never got a label"
            yield Line(text + (f"{amount}." if made.modelled else "."))
        waiting = found.served - made.known - made.assumed - made.expired
        if waiting > 0 and found.pipeline.label is not None and found.pipeline.label.labels_max == 1:
            why = "no label yet at the end of the span" + (", or it has been deleted" if found.cut else "")
            yield Line(f"{shown}, in addition: {_events(waiting)} had {why}.")
        if made.lacking:
            yield Line(f"{shown}: {made.lacking:,} events have no usable amount and are counted as 0.")

    def _served(self) -> Iterator[Line]:
        found = self._found
        if not found.served and not found.rejected:
            return
        text = f"{_events(found.served)} {'was' if found.served == 1 else 'were'} served"
        if found.pipeline.decision is not None or found.positive:
            text += f", {found.positive:,} decided positive"
        named = list(found.versions)
        generations = ", ".join(named[:_GENERATIONS_MAX])
        if len(named) > _GENERATIONS_MAX:
            generations += f" and {len(named) - _GENERATIONS_MAX:,} more"
        yield Line(f"{text}, by model generation {generations}." if generations else f"{text}.")
        for reason, count in sorted(found.rejected.items()):
            yield Line(f"{count:,} records were rejected: {reason}.")

    def _labels(self) -> Iterator[Line]:
        found = self._found
        for kind, count in sorted(found.outcomes.items()):
            yield Line(f"{_BECAME.get(kind, kind)}: {count:,}.")
        if found.delays_ms:
            middle = sorted(found.delays_ms)[len(found.delays_ms) // 2]
            yield Line(f"Half of the labels came within {spoken(round_span(max(0, middle)))}.")

    def _metrics(self) -> Iterator[Line]:
        now, past = self._found.quality, self._found.quality_before
        if not now.count:
            return
        earlier = past.values()
        yield Line(f"Of {now.count:,} predictions with a label by the end of the span:")
        for name, value in now.values().items():
            was = f"; in the span before {earlier[name]:.4g}" if name in earlier else ""
            yield Line(f"{name} {value:.4g}{was}.")

    def _alerts(self) -> Iterator[Line]:
        ordered = sorted(self._found.alerts.values(), key=lambda one: (one.time_ms or 0, one.output_id))
        shown = [one for one in ordered if self._concerns(one.audience)]
        for one in shown[-LISTED_MAX:]:
            text = f"{'changed' if one.kind == 'model_change' else one.state}: {one.sentence}"
            grave = one.severity == "critical" and one.state != "resolved"
            yield Line(text, _when(one.time_ms), grave=grave)
        if (left_out := max(0, len(shown) - LISTED_MAX) + self._found.alerts_left_out) > 0:
            yield Line(f"{left_out:,} earlier alerts are not listed.")

    def _done(self) -> Iterator[Line]:
        ordered = sorted(self._found.commands.values(), key=lambda one: (one.time_ms, one.command, one.what))
        for one in ordered[-LISTED_MAX:]:
            by = one.by or "an unnamed sender"
            yield Line(f"{one.command}{f' {one.what}' if one.what else ''}, by {by}.", _when(one.time_ms))
        changes = [alert for alert in self._found.alerts.values() if alert.kind == "model_change"]
        yield from (Line(alert.sentence, _when(alert.time_ms)) for alert in changes[-LISTED_MAX:])

    def _guard(self) -> Iterator[Line]:
        for what, count in sorted(self._found.guards.items()):
            if what != "served":
                share = f" ({percent(count / self._found.served)} of what was served)" if self._found.served else ""
                yield Line(f"{count:,} predictions were {GUARDED.get(what, what)}{share}.")
        for name, count in sorted(self._found.instead.items()):
            yield Line(f"{count:,} times, {INSTEAD[name]} was served instead.")
        if (errors := self._found.beside.means) is not None:
            labels = self._found.beside.labels
            yield Line(worded(labels, *errors))

    def _changes(self) -> Iterator[Line]:
        for one in self._found.changes[-LISTED_MAX:]:
            keys = f": {', '.join(one.keys)}" if one.keys else ""
            yield Line(f"shard {one.shard}, {one.reason}{keys}.", _when(one.time_ms))


_BECAME: Final = {
    "joined": "Events that got their label",
    "assumed": "Events without a label, for which one was assumed",
    "expired": "Events that never got a label",
    "orphan": "Labels that found no event",
    "duplicate": "Labels of events that had one",
    "late": "Labels that came after the wait",
    "corrected": "Labels that were corrected",
    "retracted": "Labels that were taken back",
    "unretracted": "Labels to be taken back that had not come",
    "failed": "Labels at which the model raised",
}
GUARDED: Final = {
    "flagged": "served and marked",
    "clipped": "clipped to a limit",
    "fallback": "replaced by a fallback",
    "withheld": "withheld",
    "held": "held for a person",
    "approved": "approved by a person",
    "edited": "edited by a person",
    "refused": "refused by a person",
    "overdue": "decided by their deadline",
}


def counted_kind(kind: str, count: int) -> str:
    """How many decisions of a kind; `none` is that of a prediction that was not served."""
    text = "without a decision" if kind == UNSERVED else kind.replace("_", " ")
    return f"{count:,} {text}{'s' if kind.endswith(('_positive', '_negative')) and count != 1 else ''}"


def _shard_and_signal(episode: str, pipeline: str) -> tuple[str, str]:
    """What the name of an episode says: `card-fraud-0-error-l7`; a name that is none of ours is its own signal."""
    shard = shard_of({"episode": episode, "pipeline": pipeline})
    signal = episode.removeprefix(f"{pipeline}-").partition("-")[2].rpartition("-")[0]
    return (shard, signal) if shard and signal else ("", episode)


def _same_on(others: Sequence[AlertSeen], pipeline: str) -> str:
    shards = sorted({_shard_and_signal(one.episode, pipeline)[0] for one in others} - {""}, key=int)
    return f" The same on shard{'s' * (len(shards) > 1)} {', '.join(shards)}." if shards else ""


def _looks(key: str) -> tuple[DigestRole, ...]:
    head = key.partition(".")[0]
    return next((who for name, who in _LOOKS if name == head), ("data_scientist",))


def _is_plain(episode: str) -> bool:
    """Whether a name can stand in a command of any form of the digest: anyone may write alerts under any name."""
    return bool(episode) and episode.isprintable() and not set(episode) & set("<>&`")


def _when(time_ms: int | None) -> str:
    return "-" if time_ms is None else written(time_ms, _TIME)


# -- the forms


def render(page: Page, form: Format) -> str:
    """The digest as text of this form."""
    return _FORMS[form](page)


def _text(page: Page) -> str:
    parts = [plain(page.title), plain(page.subtitle)]
    for section in page.sections:
        parts += ["", section.title.upper()]
        for line in section.lines:
            parts.append(f"  {line.when + '  ' if line.when else ''}{plain(line.text)}")
            parts += [f"    $ {escaped(command)}" for command in line.commands]
        parts.append(f"  $ {escaped(section.command)}")
    return "\n".join(parts) + "\n"


def _marked(text: str) -> str:
    """Text in Markdown, with all that could be markup escaped."""
    return re.sub(r"([\\`*_\[\]<>#|~&]|^[-+])", r"\\\1", plain(text))


def _markdown(page: Page) -> str:
    parts = [f"# {_marked(page.title)}", "", _marked(page.subtitle)]
    for section in page.sections:
        parts += ["", f"## {section.title}", ""]
        for line in section.lines:
            bold = "**" if line.grave else ""
            parts.append(f"- {bold}{line.when + ' ' if line.when else ''}{_marked(line.text)}{bold}")
            parts += ["", *(f"      {escaped(command)}" for command in line.commands), ""] if line.commands else []
        parts += ["", "```", escaped(section.command).replace("```", ""), "```"]
    return "\n".join(parts) + "\n"


def _slacked(text: str) -> str:
    """Text in Slack's mrkdwn: what could be a link or a mention is escaped, and markup is broken up."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([*_~`])", "\u200b\\1", safe)


def _slack_code(command: str) -> str:
    return f"`{escaped(command).replace('`', '')}`".replace("<", "&lt;").replace(">", "&gt;")


def _slack(page: Page) -> str:
    parts = [f"*{_slacked(page.title)}*", _slacked(page.subtitle)]
    for section in page.sections:
        parts += ["", f"*{section.title}*"]
        for line in section.lines:
            mark = ":red_circle: " if line.grave else ""
            parts.append(f"• {mark}{line.when + ' ' if line.when else ''}{_slacked(line.text)}")
            parts += [f"    {_slack_code(command)}" for command in line.commands]
        parts.append(_slack_code(section.command))
    return "\n".join(parts) + "\n"


def _html(page: Page) -> str:
    return sheet("driftline.operate", "digest.html", page.title, page.subtitle, page.sections)


def _email(page: Page) -> str:
    """A whole message but for its addresses, as `sendmail` takes it: text, and the page beside it."""
    message = EmailMessage()
    message["Subject"] = f"{plain(page.title)}, {plain(page.subtitle)}"
    text, html = _text(page), _html(page)
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    message.set_boundary(sha256((text + html).encode()).hexdigest()[:32])  # the same for the same digest
    return message.as_string()


_FORMS: Final[dict[Format, Callable[[Page], str]]] = {
    "markdown": _markdown,
    "html": _html,
    "slack": _slack,
    "text": _text,
    "email": _email,
}
