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

Each post carries an `Idempotency-Key` made of episode, state and update, the same at every attempt: a receiver that
remembers keys takes each message once, whatever dies in between.

Source: Alertmanager's API v2 (`postAlerts`), Slack's incoming webhooks, the IETF draft httpapi-idempotency-key-header.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

import aiohttp
import orjson
from msgspec import Struct
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from driftline.config import read_yaml
from driftline.core.error import PipelineError, SettingsError
from driftline.core.notation import Duration
from driftline.core.pipeline import Role, Severity, close_match
from driftline.core.pipeline.feature import Form

Alert: TypeAlias = Mapping[str, Any]
FILE_BYTES_MAX = 100_000
ANSWER_BYTES_MAX = 200
RETRY_AFTER_MAX_S = 300.0
SLACK_CHARACTERS_MAX = 3_000
ALERTMANAGER_OPEN = timedelta(days=7)  # Alertmanager forgets what is not repeated; `ongoing` comes sooner
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_RETRIED = frozenset({408, 425, 429})
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
    start: Literal["beginning", "now"] = Field(
        default="beginning", description="where a new webhook starts in the alerts topic: at its beginning or its end"
    )

    @property
    def host(self) -> str:
        """What may be logged of the address."""
        return urlsplit(self.url).hostname or "?"

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


def key_of(alert: Alert) -> str:
    """The idempotency key of a message."""
    return f"{alert['episode']}:{alert['state']}:{alert['update']}"


def linked(alert: Alert, web_url: str | None) -> Alert:
    """The alert with an address of its runbook that can be followed from anywhere, where a worker serves it.

    Args:
        web_url: where people reach a worker's pages; None where the deployment names no address.
    """
    page, _, section = str(alert["runbook"]).partition("#")
    if web_url is None or urlsplit(page).scheme:
        return alert
    return {**alert, "runbook": f"{web_url}/runbook#{section}"}


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


async def post(session: aiohttp.ClientSession, webhook: Webhook, alert: Alert, now: datetime) -> Answer:
    """One attempt. Redirects are not followed: they would take the headers to who knows where."""
    headers = {**webhook.headers, "Content-Type": "application/json", "Idempotency-Key": _ascii(key_of(alert))}
    timeout = aiohttp.ClientTimeout(total=webhook.timeout_ms / 1000)
    try:
        async with session.post(
            webhook.url, data=body(webhook, alert, now), headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            text = (await answer.content.read(ANSWER_BYTES_MAX)).decode("utf-8", "replace")
            return _judged(answer.status, answer.headers.get("Retry-After", ""), text)
    except TimeoutError:
        return Answer("later", f"no answer within {webhook.timeout_ms} ms")
    except (aiohttp.InvalidURL, ValueError) as error:  # what no attempt can change
        return Answer("refused", f"the request cannot be sent ({type(error).__name__}); correct the url and headers")
    except (aiohttp.ClientError, OSError) as error:
        return Answer("later", type(error).__name__)


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


def body(webhook: Webhook, alert: Alert, now: datetime) -> bytes:
    """What is posted.

    Args:
        now: wall time. The alert's own times are event time, which may lie years back in a replay.
    """
    match webhook.form:
        case "json":
            return orjson.dumps({**alert, "idempotency_key": key_of(alert)})
        case "slack":
            return orjson.dumps({"text": _slack(alert)})
        case "alertmanager":
            return orjson.dumps(_alertmanager(alert, now))


def _slack(alert: Alert) -> str:
    over = alert["state"] == "resolved"
    sign = ":white_check_mark:" if over else ":red_circle:" if alert["severity"] == "critical" else ":warning:"
    notes = [str(alert["severity"]), str(alert["kind"]).replace("_", " "), str(alert["state"])]
    by = f" by {alert['acknowledged_by']}" if alert.get("acknowledged_by") else ""
    notes += [f"acknowledged{by}"] if alert.get("acknowledged") else []
    notes += ["flapping"] if alert.get("flapping") else []
    text = f"{sign} *{_escaped(alert['pipeline'])}* {_escaped(', '.join(notes))}\n{_escaped(alert['sentence'])}\n"
    text += f"What to do: {_escaped(alert['runbook'])}\n`{_escaped(alert['episode'])}`"
    return text if len(text) <= SLACK_CHARACTERS_MAX else f"{text[: SLACK_CHARACTERS_MAX - 2]} …"


def _escaped(text: object) -> str:
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


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
