"""Reading the pipeline file, and the settings of a deployment.

What a use case is stands in its pipeline file, the same everywhere. Where it runs (broker, credentials,
folders, ports) comes from environment variables `DRIFTLINE_*`, and flags of a command override them. This is
the only place that reads either.

The file is YAML as YAML 1.2 has it, not as PyYAML reads it by default: there `no` and `on` are booleans, `010`
is eight, `12:30` is 750, `1e-3` is text, and of two equal keys the last one wins in silence. Here words are
text, a number that could mean two things and a key that comes twice are refused, and every problem names its
line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from driftline.codec.command import BY_MAX
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.core.error import InputFileError, PipelineError, Problem, SettingsError
from driftline.core.notation import is_factory
from driftline.core.pipeline import Pipeline, parse_pipeline, read_outline

_FILE_BYTES_MAX = 1_000_000
_DEPTH_MAX = 30
_NODES_MAX = 60_000  # keys, values and what holds them
_DIGITS_MAX = 100
_PLACES_MAX = 20_000_000  # characters of the ways to all keys and items, which repeat the keys above them
_PREFIX = "DRIFTLINE_"
_TAG = "tag:yaml.org,2002:"

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")


# -- the pipeline file


class _Loader(yaml.SafeLoader):
    """PyYAML's reader with YAML 1.2's idea of which words are numbers, booleans and null."""

    depth = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs have it so
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) are not supported; write the value out", event.start_mark
            )
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs have it so
            raise yaml.constructor.ConstructorError(None, None, f"more than {_DEPTH_MAX} levels", mark)
        self.nodes += 1
        if self.nodes > _NODES_MAX:  # read now, or reading a file of a megabyte takes half a minute
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs have it so
            raise yaml.constructor.ConstructorError(None, None, f"more than {_NODES_MAX:,} keys and values", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what either idea of YAML would read as something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {}


class _OneLineDumper(_Dumper):
    """Breaks no lines, whatever a text holds."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Text of several lines as a block, which shows them as they are."""
    return dumper.represent_scalar(f"{_TAG}str", text, style="|" if "\n" in text else None)


def _text_on_one_line(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(f"{_TAG}str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text)
_OneLineDumper.add_representer(str, _text_on_one_line)
for _kind, _pattern in (("bool", _BOOL), ("int", _INT), ("float", _FLOAT), ("null", _NULL)):
    _resolver = re.compile(f"^(?:{_pattern.pattern})$")
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", _resolver, None)
    _Dumper.add_implicit_resolver(f"{_TAG}{_kind}", _resolver, None)
    _OneLineDumper.add_implicit_resolver(f"{_TAG}{_kind}", _resolver, None)


def load_pipeline(path: Path, overrides: Sequence[str] = (), *, spare: bool = False) -> Pipeline:
    """The pipeline that a file describes.

    Args:
        path: a YAML (or JSON) file.
        overrides: `key.key=value`, each in place of what the file says there, as in `params.lr=0.1`.
        spare: features that nothing uses are not a fault.

    Raises:
        InputFileError: the file cannot be read.
        PipelineError: with every problem in it, each with its line.
    """
    return read_pipeline(_read(path), overrides, spare=spare)


def load_outline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """`load_pipeline` for whoever needs the pipeline's topics and not its model; see `core.pipeline.read_outline`.

    Raises:
        InputFileError: the file cannot be read.
        PipelineError: with every problem in what is read, each with its line.
    """
    doc, lines = _document(_read(path), overrides)
    with _located(lines):
        return read_outline(doc)


def read_pipeline(text: str, overrides: Sequence[str] = (), *, spare: bool = False) -> Pipeline:
    """`load_pipeline` for the text of a file.

    Raises:
        PipelineError: with every problem in it, each with its line.
    """
    doc, lines = _document(text, overrides)
    if isinstance(doc, dict) and is_factory(str(doc.get("model", ""))) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where a user's factory lies; last, so that it hides no installed module
    with _located(lines):
        return parse_pipeline(doc, spare=spare)


def _document(text: str, overrides: Sequence[str]) -> tuple[Any, dict[str, int]]:
    """A pipeline file's content with the overrides in it, and the line of each key."""
    doc, lines = read_yaml(text)
    for override in overrides:
        _override(doc, override)
    return doc, lines


def read_yaml(text: str) -> tuple[Any, dict[str, int]]:
    """A document and the line of each key in it, by the keys joined with dots.

    Raises:
        PipelineError: no YAML, a key that comes twice, or a value that could mean two things.
    """
    lines: dict[str, int] = {}
    try:
        node = _Loader(text).get_single_node()
        if node is None:
            return None, lines
        return _Constructor(lines).value(node, ()), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        why = ", ".join(filter(None, (error.context, error.problem)))
        raise PipelineError([Problem("", None, f"{where}{why or 'not valid YAML'}")]) from None
    except yaml.YAMLError as error:
        raise PipelineError([Problem("", None, f"not valid YAML: {' '.join(str(error).split())}")]) from None
    except (RecursionError, ValueError) as error:
        raise PipelineError([Problem("", None, f"cannot be read: {error}")]) from None


def dump_pipeline(pipeline: Pipeline) -> str:
    """The resolved pipeline as YAML that `read_pipeline` reads back to the same."""
    return yaml.dump(pipeline.resolved(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def yaml_scalar(value: object) -> str:
    """A value as it is written on one line of a pipeline file, quoted where it must be."""
    text: str = yaml.dump(
        value, Dumper=_OneLineDumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder; give a pipeline file")
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise InputFileError(
            f"{path} does not exist; give a pipeline file with -p, or write one with `driftline init`"
        ) from None
    except OSError as error:
        raise InputFileError(f"cannot read {path} ({error.strerror}); give another pipeline file with -p") from error
    if len(content) > _FILE_BYTES_MAX:
        raise InputFileError(
            f"{path} is larger than {_FILE_BYTES_MAX} bytes, too large for a pipeline file; give another with -p"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


class _Constructor:
    """Values of a document's nodes; notes the line of each.

    Args:
        lines: filled, by the keys on the way joined with dots.
    """

    def __init__(self, lines: dict[str, int]) -> None:
        self._lines = lines
        self._room = _PLACES_MAX

    def value(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        self._note(path, node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, str(index))) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _note(self, path: tuple[str, ...], node: yaml.Node) -> None:
        """The line of what is at a place."""
        self._room -= sum(map(len, path)) + len(path)
        if self._room < 0:
            raise _refusal(node, "its keys are too long for so many values below them")
        self._lines[".".join(path)] = node.start_mark.line + 1

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[Any, Any]:
        built: dict[Any, Any] = {}
        first: dict[Any, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refusal(key_node, "a key must be a string")
            key = _scalar(key_node)
            if key in first:
                raise _refusal(key_node, f"duplicate key {key!r:.100}, first in line {first[key]}; keep one")
            first[key] = key_node.start_mark.line + 1
            here = (*path, str(key))
            built[key] = self.value(value_node, here)
            self._note(here, key_node)
        return built


def _scalar(node: yaml.Node) -> Any:
    text, kind = str(node.value), str(node.tag).removeprefix(_TAG)
    if kind == "str":
        return text
    if kind == "null" and _NULL.fullmatch(text):
        return None
    if kind == "bool" and _BOOL.fullmatch(text):
        return text.lower() == "true"
    if kind == "int" and _INT.fullmatch(text):
        if len(text) > _DIGITS_MAX:
            raise _refusal(node, f"a number of {len(text):,} digits; at most {_DIGITS_MAX} are allowed")
        if _LEADING_ZERO.fullmatch(text):
            plain = text.lstrip("+-0") or "0"
            raise _refusal(
                node,
                f"{text} is ambiguous (an octal number in YAML 1.1); write {plain}, or '{text}' for a string",
            )
        return int(text, 0)
    if kind == "float" and (_FLOAT.fullmatch(text) or _INT.fullmatch(text)):
        return float(text.replace(".inf", "inf").replace(".nan", "nan")) if text[-1:].isalpha() else float(text)
    raise _refusal(node, f"{text!r} with the tag {node.tag!r} is not allowed; write strings, numbers, true or false")


def _refusal(node: yaml.Node, message: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _override(doc: Any, override: str) -> None:
    """Put `key.key=value` into the document."""
    place, equals, text = override.partition("=")
    keys = place.strip().split(".")
    if not equals or not all(keys):
        raise PipelineError([Problem("--set", override, "write key.key=value, as in params.lr=0.1")])
    value, _ = read_yaml(text)
    here = doc
    for depth, key in enumerate(keys):
        if not isinstance(here, dict):
            before = ".".join(keys[:depth]) or "(file)"
            raise PipelineError(
                [
                    Problem(
                        "--set",
                        override,
                        f"{before} is not a mapping in the file, so {key!r} cannot be set in it",
                    )
                ]
            )
        if depth == len(keys) - 1:
            here[key] = value
        else:
            if here.get(key) is None:
                here[key] = {}
            here = here[key]


@contextmanager
def _located(lines: Mapping[str, int]) -> Iterator[None]:
    """Problems that are raised here name their lines."""
    try:
        yield
    except PipelineError as error:
        raise PipelineError([_with_line(problem, lines) for problem in error.problems]) from None


def _with_line(problem: Problem, lines: Mapping[str, int]) -> Problem:
    """The problem with the line of its key, or of the nearest section around it."""
    place = problem.path
    while place and place not in lines:
        place = place.rpartition(".")[0]
    if not place:
        return problem
    return Problem(problem.path, problem.value, f"{problem.message} (line {lines[place]} of the file)")


# -- the settings of a deployment

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
        sasl_mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI or OAUTHBEARER.
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
    sasl_mechanism: Annotated[str, _one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER")] = (
        "PLAIN"
    )
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
    if (settings.ssl_certfile is None) != (settings.ssl_keyfile is None):
        faults.append(f"{_PREFIX}SSL_CERTFILE and {_PREFIX}SSL_KEYFILE: set both or none")
    return faults
