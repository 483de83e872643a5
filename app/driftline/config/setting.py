"""The settings of a deployment: environment variables `DRIFTLINE_*`, which flags of a command override."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from driftline.codec.command import BY_MAX
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.core.error import SettingsError

_PREFIX = "DRIFTLINE_"
_SECRETS = frozenset({"sasl_password", "snapshot_key", "web_token"})
TOKEN_MIN = 16  # characters
_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


def _brokers(text: str) -> str:
    if "@" in text:  # what is before it may be a password
        raise ValueError(
            f"user and password do not belong in the address; set {_PREFIX}SASL_USERNAME and "
            f"{_PREFIX}SASL_PASSWORD, and write brokers as in kafka-1:9092,kafka-2:9092"
        )
    for broker in text.split(","):
        match = _HOST_PORT.fullmatch(broker.strip())
        if match is None or not 1 <= int(match[1]) <= 65_535:
            wrong = "is not host:port" if match is None else "has no port from 1 to 65535"
            raise ValueError(f"{broker.strip()!r} {wrong}; write brokers as in kafka-1:9092,kafka-2:9092")
    return ",".join(broker.strip() for broker in text.split(","))


def _name(text: str) -> str:
    if len(text) > BY_MAX or not text.isprintable():
        raise ValueError(f"must be at most {BY_MAX} printable characters")
    return text


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in text:
        raise ValueError("must be an address without user, query and fragment, as in https://driftline.example.com")
    return text.rstrip("/")


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _keys(text: str) -> str:
    KeyRing.of(text)
    return text


def _token(text: str) -> str:
    if len(text) < TOKEN_MIN or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"must have at least {TOKEN_MIN} letters, digits and signs, without spaces")
    return text


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("no such file; give the path of a PEM file")
    return path


def _one_of(*allowed: str) -> BeforeValidator:
    def read(text: str) -> str:
        for word in allowed:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"must be one of {', '.join(allowed)}")

    return BeforeValidator(read)


def _whole(least: int, most: int) -> BeforeValidator:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return BeforeValidator(read)


_Place: TypeAlias = Annotated[Path, AfterValidator(Path.expanduser)]
_File: TypeAlias = Annotated[_Place, AfterValidator(_existing)]


class Settings(BaseModel):
    """Where and how this deployment runs. Each is an environment variable `DRIFTLINE_<NAME>`.

    Args:
        bootstrap: brokers to ask first, host:port separated by commas.
        security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        sasl_mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or GSSAPI, which needs the package `gssapi`.
        ssl_cafile: certificates to trust [default: the system's].
        ssl_certfile, ssl_keyfile: the client's certificate and key, both or none.
        data_dir: folder for what may be lost: caches, broker logs, worker state of Faust.
        web_host, web_port: where /metrics, /health and /runbook are served.
        web_token: secret that the page's actions need, at least 16 characters [default: none, and no actions].
        web_url: address under which people reach a worker's pages, for links in what is posted to webhooks [default:
            none: links are as `alerts.runbook` of the pipeline file says].
        pipeline: the pipeline file of commands without -p.
        notify: file of webhooks that alerts are posted to [default: none].
        snapshot_key: secrets that sign snapshots, journal, commands and model files, separated by commas; the first
            signs, all verify. Each has at least 16 characters. Without it nothing is signed.
        operator: name of who sends commands [default: this machine's user].
        accept_unsigned_models: a worker without keys takes models over the control topic.
        merge_patience_ms: how long a worker that catches up waits for an input that had records and is quiet; 0 for
            not at all.
        partitions: partitions of topics that `topics create` makes.
        replication: their replication factor.
        log_level: DEBUG, INFO, WARNING or ERROR.
        log_format: text or json.
    """

    model_config = ConfigDict(frozen=True)

    bootstrap: Annotated[str, AfterValidator(_brokers)] = "127.0.0.1:9092"
    security_protocol: Annotated[str, _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")] = "PLAINTEXT"
    sasl_mechanism: Annotated[str, _one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI")] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = Field(None, repr=False)
    ssl_cafile: _File | None = None
    ssl_certfile: _File | None = None
    ssl_keyfile: _File | None = None
    data_dir: _Place
    web_host: str = "127.0.0.1"
    web_port: Annotated[int, _whole(1, 65_535)] = 6066
    web_token: Annotated[str, AfterValidator(_token)] | None = Field(None, repr=False)
    web_url: Annotated[str, AfterValidator(_web_address)] | None = None
    pipeline: _Place | None = None
    notify: _Place | None = None
    snapshot_key: Annotated[str, AfterValidator(_keys)] | None = Field(None, repr=False)
    operator: Annotated[str, AfterValidator(_name)] | None = None
    accept_unsigned_models: Annotated[bool, BeforeValidator(_truth)] = False
    merge_patience_ms: Annotated[int, _whole(0, 60_000)] = 500
    partitions: Annotated[int, _whole(1, 10_000)] = 4
    replication: Annotated[int, _whole(1, 100)] = 1
    log_level: Annotated[str, _one_of("DEBUG", "INFO", "WARNING", "ERROR")] = "INFO"
    log_format: Annotated[str, _one_of("text", "json")] = "text"

    @property
    def ring(self) -> KeyRing:
        """The keys of `snapshot_key`."""
        return KeyRing.of(self.snapshot_key) if self.snapshot_key else NO_KEYS


def load_settings(environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None) -> Settings:
    """The settings from the environment, with a command's flags in place of what they name.

    Args:
        environ: the process's own by default. An empty value counts as unset.
        flags: by the names of `Settings`; None counts as not given.

    Raises:
        SettingsError: with every setting that is wrong, and what is allowed.
    """
    environ = os.environ if environ is None else environ
    names = tuple(Settings.model_fields)
    faults = list(_misspelled(environ, names))
    given: dict[str, str] = {}
    origins: dict[str, str] = {}
    for name in names:
        variable = _PREFIX + name.upper()
        if environ.get(variable, "").strip():
            given[name], origins[name] = environ[variable].strip(), variable
    for name, value in (flags or {}).items():
        if name not in names:
            raise SettingsError(f"unknown setting {name!r}; settings are {', '.join(names)}")
        if value is not None:
            given[name], origins[name] = str(value).strip(), f"--{name.replace('_', '-')}"
    given.setdefault("data_dir", str(_default_data_dir(environ)))
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        for one in error.errors():
            name = str(one["loc"][0])
            text = given[name]
            shown = "" if name in _SECRETS or (name == "bootstrap" and "@" in text) else f" = {text!r:.200}"
            faults.append(f"{origins.get(name, name)}{shown}: {one['ctx']['error']}")
    else:
        if not faults and not (faults := list(_clashes(settings))):
            return settings
    raise SettingsError("\n".join(faults))


def _misspelled(environ: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    """Variables so close to one of ours that they must be meant for it."""
    known = [_PREFIX + name.upper() for name in names]
    faults = []
    for variable in sorted(environ):
        if variable.startswith(_PREFIX) and variable not in known:
            close = get_close_matches(variable, known, n=1, cutoff=0.9)
            if close:
                faults.append(f"{variable}: unknown setting; did you mean {close[0]}?")
    return faults


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    """`$XDG_DATA_HOME/driftline` where that is set, else `~/.driftline`."""
    xdg = environ.get("XDG_DATA_HOME", "")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "driftline"
    return Path.home() / ".driftline"


def _clashes(settings: Settings) -> list[str]:
    faults = []
    if settings.security_protocol.startswith("SASL"):
        if settings.sasl_mechanism in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}:
            faults += [
                f"{_PREFIX}{name.upper()}: is required with {settings.security_protocol}"
                for name in ("sasl_username", "sasl_password")
                if getattr(settings, name) is None
            ]
    elif settings.sasl_username is not None:
        faults.append(
            f"{_PREFIX}SASL_USERNAME: is set, but {_PREFIX}SECURITY_PROTOCOL is "
            f"{settings.security_protocol}; set it to SASL_SSL (or SASL_PLAINTEXT), or unset the user name"
        )
    if not settings.security_protocol.endswith("SSL"):
        secured = "SASL_SSL" if settings.security_protocol.startswith("SASL") else "SSL"
        faults += [
            f"{_PREFIX}{name.upper()}: is set, but {_PREFIX}SECURITY_PROTOCOL is {settings.security_protocol}, which "
            f"uses no TLS; set it to {secured}, or unset the file"
            for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
            if getattr(settings, name) is not None
        ]
    if (settings.ssl_certfile is None) != (settings.ssl_keyfile is None):
        faults.append(f"{_PREFIX}SSL_CERTFILE and {_PREFIX}SSL_KEYFILE: set both or none")
    return faults
