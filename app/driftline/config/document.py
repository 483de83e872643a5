"""YAML documents, as YAML 1.2 reads them.

PyYAML by default reads `no` and `on` as booleans, `010` as eight, `12:30` as 750 and `1e-3` as text, and of two equal
keys silently takes the last. Here words are text, numbers that could mean two things and keys that come twice are
refused, and the line of every key is known.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from driftline.core.error import PipelineError, Problem

_DEPTH_MAX = 30
_NODES_MAX = 60_000  # keys, values and what holds them
_DIGITS_MAX = 100
_PLACES_MAX = 20_000_000  # characters of the ways to all keys and items, which repeat the keys above them
_TAG = "tag:yaml.org,2002:"

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")


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


def dump_yaml(document: object) -> str:
    """A document as YAML that `read_yaml` reads back to the same."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def yaml_scalar(value: object) -> str:
    """A value as it is written on one line of a pipeline file, quoted where it must be."""
    text: str = yaml.dump(
        value, Dumper=_OneLineDumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()


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
