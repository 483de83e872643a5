"""Webhooks: where alerts are posted, in which format, and what an answer means.

The settings file of a deployment names them (`DRIFTLINE_NOTIFY`); it is not a part of the pipeline file, which goes
into the journal and is read by many. Addresses and headers may hold `${NAME}`, filled in from the environment, so that
the file itself needs no secret. Nothing of an address but its host is ever logged.

    webhooks:
      on-call:
        form: slack                   # json | slack | alertmanager
        url: ${SLACK_URL}
        audience: [operations]        # roles; all by default
        severity: critical            # the least; warning by default
        timeout: 10s                  # of one attempt
        give_up: 10m                  # after so long the alert goes to <pipeline>.undelivered
        group: 30s                    # gather so long, one message a change; 0: each alert at once

Alerts of one change are posted together (`group`, `incident`): by default to Slack, where people read them, and not to
programs. Each post carries an `Idempotency-Key` made of episode, state and update, or of all of its parts', the same at
every attempt: a receiver that remembers keys takes each message once, whatever dies in between.

Source: Alertmanager's API v2 (`postAlerts`), Slack's incoming webhooks, the IETF draft httpapi-idempotency-key-header.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp
import orjson
from msgspec import Struct
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from driftline.config import read_yaml
from driftline.core.alert.kind import worded
from driftline.core.error import PipelineError, SettingsError
from driftline.core.notation import Duration
from driftline.core.pipeline import Role, Severity, close_match
from driftline.core.pipeline.feature import Form
from driftline.core.wording import unlinked
from driftline.operate.incident import Alert, Message, key_of, shard_of

FILE_BYTES_MAX = 100_000
ANSWER_BYTES_MAX = 4_096
ANSWER_SHOWN = 200  # characters of it
GROUP_MS = 30_000
PARTS_SHOWN = 8  # of a message, in a text
RETRY_AFTER_MAX_S = 300.0
SLACK_CHARACTERS_MAX = 3_000
ALERTMANAGER_OPEN = timedelta(days=7)  # Alertmanager forgets what is not repeated; `ongoing` comes sooner
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_RETRIED = frozenset({408, 425, 429})
_WORD = re.compile(r"[A-Za-z0-9_-]{4,}")  # what is shorter is no secret
_SECTION = re.compile(r"[a-z0-9-]{1,100}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset({"connection", "content-length", "content-type", "idempotency-key", "transfer-encoding"})


def _read_roles(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Webhook(Form):
    """One place that alerts are posted to."""

    form: Literal["json", "slack", "alertmanager"] = Field(description="format of the message")
    url: str = Field(description="address; ${NAME} is replaced from the environment", repr=False)
    headers: dict[str, str] = Field(default_factory=dict, description="additional HTTP headers", repr=False)
    audience: Annotated[tuple[Role, ...], BeforeValidator(_read_roles)] = Field(
        default=(), description="only alerts for these roles [default: all]"
    )
    severity: Severity = Field(default="warning", description="only alerts of this severity or above")
    timeout_ms: Annotated[Duration, Field(ge=1)] = Field(
        default=10_000, alias="timeout", description="time limit of one attempt"
    )
    backoff_ms: Duration = Field(default=1_000, alias="backoff", description="pause before the second attempt")
    give_up_ms: Duration = Field(default=600_000, alias="give_up", description="stop retrying after this long")
    group_ms: Annotated[Duration, Field(ge=0, le=600_000)] | None = Field(
        default=None,
        alias="group",
        description="gather alerts for this long, and post those of one change as one message; 0: each alert at once "
        "[default: 30s for slack, 0 for json and alertmanager]",
    )
    start: Literal["beginning", "now"] = Field(
        default="beginning", description="where a new webhook starts in the alerts topic: at its beginning or its end"
    )

    @property
    def host(self) -> str:
        """What may be logged of the address."""
        return urlsplit(self.url).hostname or "?"

    @property
    def gather_s(self) -> float:
        """How long alerts are gathered; 0 where each is posted by itself."""
        if self.group_ms is None:
            return GROUP_MS / 1000 if self.form == "slack" else 0.0
        return self.group_ms / 1000

    def wants(self, alert: Alert) -> bool:
        """Whether this alert is for it: its audience, severe enough, and not silenced.

        The end of a silenced episode goes to whoever was notified of its beginning. Severity and audience of an episode
        never shrink, so who hears of its beginning hears of its end.
        """
        if self.severity == "critical" and alert["severity"] != "critical":
            return False
        if self.audience and not set(self.audience) & set(alert["audience"]):
            return False
        return bool(alert["announced"]) if alert["state"] == "resolved" else not alert["silenced"]


_ADAPTER = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$")], Webhook])


def load_webhooks(path: Path, environ: Mapping[str, str] | None = None) -> dict[str, Webhook]:
    """The webhooks of a settings file, by name.

    Raises:
        SettingsError: with every fault of the file.
    """
    environ = os.environ if environ is None else environ
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise SettingsError(f"{path} is larger than {FILE_BYTES_MAX} bytes, too large for a list of webhooks")
        document, _ = read_yaml(content.decode())
    except (OSError, UnicodeDecodeError, PipelineError) as error:
        raise SettingsError(f"webhooks (--notify, DRIFTLINE_NOTIFY): cannot read {path}: {error}") from error
    if not isinstance(document, dict) or list(document) != ["webhooks"] or not isinstance(document["webhooks"], dict):
        raise SettingsError(
            f"webhooks (--notify, DRIFTLINE_NOTIFY): {path} must have the single key `webhooks`, with a webhook "
            "under each name"
        )
    try:
        read = _ADAPTER.validate_python(document["webhooks"])
    except ValidationError as error:
        faults = [
            f"webhooks.{'.'.join(map(str, one['loc']))}: {_reason(one)}"
            for one in error.errors(include_url=False, include_input=False)  # an input may be a secret
        ]
        raise SettingsError(
            f"webhooks (--notify, DRIFTLINE_NOTIFY): {path}:\n" + "\n".join(f"  {fault}" for fault in faults)
        ) from None
    return {name: _filled_in(name, webhook, environ) for name, webhook in read.items()}


def _reason(fault: ErrorDetails) -> str:
    """What is wrong, and what is allowed instead."""
    keys = {field.alias or name: field for name, field in Webhook.model_fields.items()}
    key = str(fault["loc"][1]) if len(fault["loc"]) > 1 else ""
    match fault["type"]:
        case "extra_forbidden":
            return f"unknown key{close_match(key, list(keys)) or ';'} Allowed: {', '.join(keys)}"
        case "missing":
            return f"is required: {keys[key].description}"
        case "string_pattern_mismatch":
            return (
                "a webhook's name has 1 to 50 lower-case letters, digits, '_' and '-', and starts with a letter or "
                "digit"
            )
    return fault["msg"].replace("Input should be", "must be").removeprefix("Value error, ")


def _filled_in(name: str, webhook: Webhook, environ: Mapping[str, str]) -> Webhook:
    def fill(text: str) -> str:
        def value(match: re.Match[str]) -> str:
            found = environ.get(match[1])
            if not found:
                raise SettingsError(f"webhooks.{name} uses the environment variable {match[1]}, which is not set")
            return found

        return _VARIABLE.sub(value, text)

    url = fill(webhook.url)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
        raise SettingsError(f"webhooks.{name}.url is not an http:// or https:// address")
    headers = {key: fill(text) for key, text in webhook.headers.items()}
    for key, text in headers.items():
        if (why := _unfit_header(key, text)) is not None:
            raise SettingsError(f"webhooks.{name}.headers: {_ascii(key)!r} {why}")
    if (parts.username is not None or parts.password is not None) and "authorization" in map(str.lower, headers):
        raise SettingsError(
            f"webhooks.{name}: credentials both in the url and in an Authorization header; remove one of them"
        )
    return webhook.model_copy(update={"url": url, "headers": headers})


def _unfit_header(name: str, value: str) -> str | None:
    """Why a header cannot be sent; its value may be a secret and is not shown."""
    if not _TOKEN.fullmatch(name):
        return "is not a header name: use letters, digits and hyphens"
    if name.lower() in _OURS:
        return "is set by Driftline; remove it"
    if not value.isascii() or not value.isprintable():
        return "has an invalid value: use one line of printable ASCII characters"
    return None


def _has_port(parts: SplitResult) -> bool:
    """Whether the port, where one is named, can be one."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def linked(alert: Alert, web_url: str | None, runbook: str) -> Alert:
    """The alert with an address of its runbook that can be followed from anywhere, where a worker serves it.

    Args:
        web_url: where people reach a worker's pages; None where the deployment names no address.
        runbook: that of the pipeline file.
    """
    page = runbook if web_url is None or urlsplit(runbook).scheme else f"{web_url}/runbook"
    return {**alert, "runbook": section_of(str(alert["runbook"]), page)}


def section_of(address: str, runbook: str) -> str:
    """An alert's section in a runbook. Of its own address no more is taken: whoever may write alerts could have a link
    of his stand as what to do."""
    section = address.rpartition("#")[2]
    return f"{runbook}#{section}" if _SECTION.fullmatch(section) else runbook


class Answer(Struct, frozen=True):
    """What came of one attempt.

    Args:
        verdict: `taken`; `later` where another attempt may help; `refused` where none will.
        detail: for a log: a status or an error, never the address.
        after_s: how long the receiver asks us to wait, if it does.
    """

    verdict: Literal["taken", "later", "refused"]
    detail: str
    after_s: float = 0.0


async def post(session: aiohttp.ClientSession, webhook: Webhook, what: Alert | Message, now: datetime) -> Answer:
    """One attempt at posting a message about an alert, or of several."""
    key = what.key if isinstance(what, Message) else key_of(what)
    return await send(session, webhook, key, body(webhook, what, now))


async def send(session: aiohttp.ClientSession, webhook: Webhook, key: str, content: bytes) -> Answer:
    """One attempt to post JSON. Redirects are not followed: they would take the headers to who knows where.

    Args:
        key: a repeat of the same is known by it.
    """
    headers = {**webhook.headers, "Content-Type": "application/json", "Idempotency-Key": _ascii(key)}
    timeout = aiohttp.ClientTimeout(total=webhook.timeout_ms / 1000)
    try:
        async with session.post(
            webhook.url, data=content, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            content = await answer.content.read(ANSWER_BYTES_MAX)
            text = without_secrets(content.decode("utf-8", "replace"), webhook)[:ANSWER_SHOWN]
            return _judged(answer.status, answer.headers.get("Retry-After", ""), text)
    except TimeoutError:
        return Answer("later", f"no answer within {webhook.timeout_ms} ms")
    except (aiohttp.InvalidURL, ValueError) as error:  # what no attempt can change
        return Answer("refused", f"the request cannot be sent ({type(error).__name__}); correct the url and headers")
    except (aiohttp.ClientError, OSError) as error:
        return Answer("later", type(error).__name__)


def without_secrets(text: str, webhook: Webhook) -> str:
    """What a receiver says, without the words of the address and the headers that it may say again.

    Some answer a wrong request with all that was in it, and what they say is logged.
    """
    parts = urlsplit(webhook.url)
    user = (parts.username or "", parts.password or "")
    sent = ":".join(map(unquote, user))  # as its Authorization header has it
    basic = [b64encode(sent.encode(encoding, "replace")).decode() for encoding in ("utf-8", "latin-1")]
    held = " ".join([parts.path, parts.query, *user, *basic, *webhook.headers.values()])
    words = {*_WORD.findall(held), *_WORD.findall(unquote(held))}
    if not words:
        return text
    return re.sub("|".join(map(re.escape, sorted(words, key=len, reverse=True))), "***", text, flags=re.IGNORECASE)


def _judged(status: int, retry_after: str, text: str) -> Answer:
    if 200 <= status < 300:
        return Answer("taken", str(status))
    detail = f"{status} {' '.join(text.split())}".strip()
    if status >= 500 or status in _RETRIED:
        after_s = min(float(retry_after), RETRY_AFTER_MAX_S) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return Answer("later", detail, after_s)
    return Answer("refused", detail)


def _ascii(text: str) -> str:
    """A header's value: names of features may hold any sign."""
    return text.encode("ascii", "backslashreplace").decode().replace("\r", " ").replace("\n", " ")


def body(webhook: Webhook, what: Alert | Message, now: datetime) -> bytes:
    """What is posted.

    Args:
        now: wall time. The alert's own times are event time, which may lie years back in a replay.
    """
    form = webhook.form
    if isinstance(what, Message):
        return orjson.dumps(_grouped(what, form, now))
    match form:
        case "json":
            return orjson.dumps({**what, "idempotency_key": key_of(what)})
        case "slack":
            return orjson.dumps({"text": _bounded(_slack(what))})
        case "alertmanager":
            return orjson.dumps(_alertmanager(what, now))


def _grouped(message: Message, form: str, now: datetime) -> Any:
    """A message of several alerts: for programs, what it says as a whole, and each part as it is in the topic."""
    if form == "slack":
        return {"text": _bounded(_slack_message(message))}
    if form == "alertmanager":
        return [entry for part in message.news for entry in _alertmanager(part, now)]
    lead = message.parts[0]
    return {
        "pipeline": lead["pipeline"],
        "state": message.state,
        "severity": message.severity,
        "kind": lead["kind"],
        "sentence": lead["sentence"],
        "runbook": lead["runbook"],
        "parts": list(message.parts),
        "idempotency_key": message.key,
    }


def _slack_message(message: Message) -> str:
    """One change: what matters most first, then the other parts, each with its shard, and what to do."""
    lead, state = message.parts[0], message.state
    shards = {shard for part in message.parts if (shard := shard_of(part))}
    notes = [message.severity, *dict.fromkeys(worded(part["kind"]) for part in message.parts), state]
    where = f" on {len(shards)} shards" if len(shards) > 1 else ""
    name = _escaped(unlinked(str(lead["pipeline"])))
    lines = [f"{_sign(state, message.severity)} *{name}* {_escaped(unlinked(', '.join(notes)))}{where}"]
    for part in message.parts[:PARTS_SHOWN]:
        still = "" if state in ("opened", "resolved", "changed") or part["kind"] == "model_change" else part["state"]
        marks = [f"shard {shard_of(part)}"] if len(shards) > 1 else []
        marks += [str(still)] if still else []
        marks += ["earlier"] if state == "resolved" and part["kind"] == "model_change" else []
        marks += [_acknowledged(part)] if part.get("acknowledged") and part["state"] != "resolved" else []
        head = f"[{', '.join(marks)}] " if marks else ""
        bullet = "• " if len(message.parts) > 1 else ""
        lines.append(f"{bullet}{_escaped(unlinked(head + str(part['sentence'])))}")
    if len(message.parts) > PARTS_SHOWN:
        lines.append(f"and {len(message.parts) - PARTS_SHOWN} more: `driftline tail alerts --pretty`")
    runbooks = dict.fromkeys(str(part["runbook"]) for part in message.parts)
    lines.append(f"What to do: {_escaped(' '.join(list(runbooks)[:3]))}")
    names = [str(part["episode"]) for part in message.parts[:PARTS_SHOWN] if part["kind"] != "model_change"]
    return "\n".join([*lines, *map(_code, names)])


def _sign(state: str, severity: str) -> str:
    """What a glance sees; a change of the model is neither trouble nor its end."""
    if state == "changed":
        return ":arrows_counterclockwise:"
    if state == "resolved":
        return ":white_check_mark:"
    return ":red_circle:" if severity == "critical" else ":warning:"


def _slack(alert: Alert) -> str:
    state = "changed" if alert["kind"] == "model_change" else str(alert["state"])
    notes = [str(alert["severity"]), worded(alert["kind"]), state]
    notes += [_acknowledged(alert)] if alert.get("acknowledged") else []
    notes += ["flapping"] if alert.get("flapping") else []
    sign = _sign(state, str(alert["severity"]))
    text = f"{sign} *{_escaped(unlinked(str(alert['pipeline'])))}* {_escaped(unlinked(', '.join(notes)))}\n"
    text += f"{_escaped(unlinked(str(alert['sentence'])))}\n"
    return text + f"What to do: {_escaped(alert['runbook'])}\n{_code(alert['episode'])}"


def _acknowledged(alert: Alert) -> str:
    by = f" by {alert['acknowledged_by']}" if alert.get("acknowledged_by") else ""
    return f"acknowledged{by}"


def slack_text(text: str) -> str:
    """Text that is in Slack's form already, within its bounds."""
    return _bounded(text)


def _bounded(text: str) -> str:
    return text if len(text) <= SLACK_CHARACTERS_MAX else f"{text[: SLACK_CHARACTERS_MAX - 2]} …"


def _escaped(text: object) -> str:
    """Text from topics, on one line: a second one could pass for a line of ours."""
    line = " ".join(str(text).split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(name: object) -> str:
    """A name as it is to be given to a command: Slack looks for no links there."""
    text = _escaped(name).replace("`", "'")
    return f"`{text}`"


def _alertmanager(alert: Alert, now: datetime) -> list[dict[str, Any]]:
    """The alert, and after its opening the end of what it was before it became critical: severity is a label there."""
    ends = now if alert["state"] == "resolved" else now + ALERTMANAGER_OPEN
    made = [_alertmanager_entry(alert, str(alert["severity"]), ends)]
    if alert["state"] != "opened" and alert["severity"] == "critical":
        made.append(_alertmanager_entry(alert, "warning", now))
    return made


def _alertmanager_entry(alert: Alert, severity: str, ends: datetime) -> dict[str, Any]:
    return {
        "labels": {
            "alertname": f"driftline_{alert['kind']}",
            "pipeline": str(alert["pipeline"]),
            "kind": str(alert["kind"]),
            "severity": severity,
            "episode": str(alert["episode"]),
        },
        "annotations": {
            "summary": str(alert["sentence"]),
            "runbook_url": str(alert["runbook"]),
            "audience": ", ".join(map(str, alert["audience"])),
            "model_version": str(alert["evidence"].get("model_version", "")),
        },
        "endsAt": ends.astimezone(UTC).isoformat(),
    }
