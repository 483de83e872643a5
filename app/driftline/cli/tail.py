"""`driftline tail`: print what workers publish as it arrives, one JSON document per line."""

from __future__ import annotations

import asyncio
import base64
import json
import textwrap
import time
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from driftline.cli.echo import echo
from driftline.cli.setting import outline_of, settings_of
from driftline.config import Settings
from driftline.core.alert.kind import worded
from driftline.core.pipeline import Pipeline
from driftline.core.wording import escaped
from driftline.engine.published import offset_of
from driftline.kafka.client import Arrival, client_options, exists, subscribe
from driftline.kafka.topic_rule import names
from driftline.operate.incident import Incidents

OWN_HEADERS = "driftline."
PART = 1  # exit code: fewer records came than asked for


def tail(
    kind: str,
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    from_beginning: bool,
    limit: int | None,
    timeout_s: float | None,
    pretty: bool,
) -> None:
    """What `driftline tail` does."""
    if pretty and kind != "alerts":
        raise click.BadParameter(f"only works for alerts, not {kind}", param_hint="--pretty")
    settings = settings_of(bootstrap=bootstrap)
    pipeline = outline_of(settings, pipeline_file, overrides)
    count = asyncio.run(_print(kind, pipeline, settings, from_beginning, limit, timeout_s, pretty))
    if limit is not None and count < limit:
        raise click.exceptions.Exit(PART)


async def _print(
    kind: str,
    pipeline: Pipeline,
    settings: Settings,
    from_beginning: bool,
    limit: int | None,
    timeout_s: float | None,
    pretty: bool,
) -> int:
    """Print until the limit, the time-out or an interrupt.

    Returns:
        How many records were printed.
    """
    topic = next(name for one, name in names(pipeline).items() if one == kind)
    shape = PrettyAlerts().shape if pretty else rejected_line if kind == "rejected" else plain_line
    committed = pipeline.delivery == "exactly_once"
    count = 0
    heard = time.monotonic()
    options = client_options(settings)
    if not await exists(options, topic):
        echo(f"topic {topic} does not exist yet; waiting for it", err=True)
        from_beginning = True  # all that it will hold is new to us
    arrivals = subscribe(options, topic, from_beginning=from_beginning, committed=committed)
    async with aclosing(arrivals):
        async for batch in arrivals:
            for arrival in batch:
                echo(shape(arrival))  # flushes: whoever reads a pipe gets each line at once
                count += 1
                if count == limit:
                    return count
            now = time.monotonic()
            if batch:
                heard = now
            elif timeout_s is not None and now - heard >= timeout_s:
                return count
    return count


def plain_line(arrival: Arrival) -> str:
    """The value as it is: what we publish is one line of JSON.

    Control characters, which could write over what a terminal shows, are written as JSON writes them in a text.
    """
    return "null" if arrival.value is None else escaped(arrival.value.decode("utf-8", "replace"))


PRETTY_COLUMNS = 80
_PRETTY_MARKS = {"opened": "!", "ongoing": "~", "resolved": "="}


class PrettyAlerts:
    """Alerts for people: what and when, the sentence, and what to do, in at most 80 columns.

    What is of the same change as an alert before, on another shard or signal, names that one instead of saying again
    for whom it is and what to do. Text is as it came but for control characters, which could write over what stands
    above.
    """

    def __init__(self) -> None:
        self._incidents = Incidents()

    def shape(self, arrival: Arrival) -> str:
        """The lines of one alert."""
        try:
            return self._shape(json.loads(arrival.value or b"null"))
        except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):  # a stub, or nothing of ours
            return "\n".join(_wrapped(plain_line(arrival), "? "))

    def _shape(self, alert: dict[str, Any]) -> str:
        when = "-" if alert["time_ms"] is None else _utc(alert["time_ms"])
        state, severity = str(alert["state"]), str(alert["severity"])
        marks = [word for word in ("acknowledged", "silenced", "flapping") if alert.get(word)]
        if marks and alert.get("acknowledged_by"):
            marks[0] += f" by {alert['acknowledged_by']}"
        lasted = alert["time_ms"] - alert["opened_ms"] if alert["time_ms"] is not None else 0
        how = severity if state != "resolved" else "over"
        title = f"{_PRETTY_MARKS.get(state, '?')} {when}  {how}  {worded(alert['kind'])}"
        head = "  ".join([title, state, *marks])
        after = f" after {_span(lasted)}" if state != "opened" and lasted > 0 else ""
        parts = [*_wrapped(head + after, ""), *_wrapped(str(alert["sentence"]), "  ")]
        lead = self._incidents.lead(alert)
        if lead != alert["episode"]:
            parts += _wrapped(f"episode {alert['episode']}", "  ")
            parts += _wrapped(f"of the same change as {lead}", "  ")
        else:
            parts += _wrapped(f"for {', '.join(map(str, alert['audience'])).replace('_', ' ')}", "  ")
            parts += _wrapped(f"episode {alert['episode']}", "  ")
            parts += _wrapped(f"what to do: {alert['runbook']}", "  ")
        return "\n".join([*parts, ""])


def _wrapped(text: str, indent: str) -> list[str]:
    shown = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.wrap(
        shown, PRETTY_COLUMNS, initial_indent=indent, subsequent_indent=indent or "  ", break_on_hyphens=False
    )


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _span(span_ms: int) -> str:
    """A span in its two largest units: `1d 4h`, `12m 5s`."""
    units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
    parts = []
    for unit, size_ms in units:
        count, span_ms = divmod(span_ms, size_ms)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "less than 1s"


def rejected_line(arrival: Arrival) -> str:
    """Why a record was rejected, where it was, and what it held (text, or base64 where it is none)."""
    shown: dict[str, Any] = {}
    received: dict[str, Any] = {}
    for name, content in arrival.headers:
        if name.startswith(OWN_HEADERS):
            shown[name.removeprefix(OWN_HEADERS)] = (content or b"").decode("utf-8", "replace")
        else:
            received.update(_readable(name, content))
    for name in ("partition", "offset", "truncated_bytes"):
        if (number := offset_of(shown.get(name, ""))) is not None:
            shown[name] = number
    line = json.dumps(
        {
            **shown,
            "record_time_ms": arrival.time_ms,
            **_readable("key", arrival.key),
            **_readable("value", arrival.value),
            **({"headers": received} if received else {}),
        },
        ensure_ascii=False,
    )
    return escaped(line)


def _readable(name: str, content: bytes | None) -> dict[str, str | None]:
    """Bytes under a name as text, or under `<name>_base64` where they are not UTF-8."""
    if content is None:
        return {name: None}
    try:
        return {name: content.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}
