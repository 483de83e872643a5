"""River expressions, read and built, never executed as code.

A pipeline file names its model, metrics and detectors as River's documentation writes them: `StandardScaler() |
LogisticRegression(optimizer=SGD($lr))`. Python's own parser reads the text, and a walk over the tree builds
what is allowed: names of River's classes, calls, keywords, literals, lists, tuples, dicts, `|`, `+`, `*` and
unary minus. There is no other way in: no attributes of objects, no functions, no I/O.

Length, nesting and operators are bounded before Python's parser sees the text, since its own limits end in a
crash of depth.
"""

from __future__ import annotations

import ast
import inspect
import math
import numbers
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from river import api as river_api
from river import base, utils

from driftline.core.error import ExpressionError, UnseededError
from driftline.core.river.amount import AMOUNT_MODELS
from driftline.core.river.baseline import OWN_MODELS
from driftline.core.river.items import ITEM_MODELS
from driftline.core.river.seasonal import FORECASTERS
from driftline.core.river.seed import Seeds
from driftline.core.river.select import Select

_LENGTH_MAX = 20_000
_NESTING_MAX = 40
_OPERATORS_MAX = 400
_INTEGER_MAX = 2**63 - 1
_PARAM = "\u01c2"  # stands for `$`, which Python's parser does not know; a letter, so `$lr` becomes one name

# No models in these (abstract bases, files and the network, loops that consume streams), or nothing that
# can be replayed.
_EXCLUDED_MODULES = frozenset({"base", "compat", "conf", "datasets", "envs", "evaluate", "stream", "tags", "typing"})
_EXCLUDED_CLASSES = {
    "compose.FuncTransformer": "it wraps a Python function, but expressions cannot run code",
    "feature_extraction.RandomTreesEmbedding": "it cannot be restored from a snapshot; use RBFSampler",
}
_TYPES: dict[str, type] = {
    "numbers.Number": numbers.Number,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
}
_DURATIONS = frozenset({"timedelta", "datetime.timedelta", "dt.timedelta"})  # as River's documentation writes them
_DURATION_MAX = timedelta(days=36_500)
_WRAPPERS_OF_CLASSES = (utils.Rolling, utils.TimeRolling)
_CONSTRUCTOR_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NotImplementedError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
_TOKEN = re.compile(
    r"""'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\#[^\n]*|\$\w*|.""",
    re.DOTALL,
)


class Namespace:
    """The classes that an expression can name, by their path in River (`optim.losses.Log`).

    Any end of the path names the class where it is the only one: `Log`, `losses.Log`.
    """

    def __init__(self, classes: Mapping[str, type]) -> None:
        self.classes = dict(sorted(classes.items()))
        self._by_end: dict[str, list[str]] = {}
        for path in self.classes:
            parts = path.split(".")
            for start in range(len(parts)):
                self._by_end.setdefault(".".join(parts[start:]), []).append(path)

    def including(self, own: Mapping[str, type]) -> Namespace:
        """These classes and our own, which come before River's of the same short name."""
        kept = {path: kind for path, kind in self.classes.items() if path.rsplit(".", 1)[-1] not in own}
        return Namespace({**kept, **own})

    def find(self, name: str) -> type:
        """The class of that name.

        Raises:
            LookupError: with a text that says why not, and what is allowed.
        """
        plain = name.removeprefix("river.")
        if plain in self.classes:
            return self.classes[plain]
        if plain in _EXCLUDED_CLASSES:
            raise LookupError(f"cannot be used: {_EXCLUDED_CLASSES[plain]}")
        paths = self._by_end.get(plain, [])
        if len(paths) == 1:
            return self.classes[paths[0]]
        if paths:
            raise LookupError(f"is ambiguous: write one of {', '.join(paths)}")
        for path, why in _EXCLUDED_CLASSES.items():
            if path.endswith("." + plain):
                raise LookupError(f"cannot be used: {why}")
        if plain.split(".")[0] in _EXCLUDED_MODULES:
            raise LookupError(f"cannot be used: River's {plain.split('.')[0]} module holds no models")
        close = get_close_matches(plain, list(self._by_end), n=3, cutoff=0.7)
        folded = [path for path in self._by_end if path.lower() == plain.lower()]
        hint = list(dict.fromkeys(folded + close))[:3]
        allowed = "use the names of River's classes, as in linear_model.LogisticRegression"
        raise LookupError(
            f"is not a River class; did you mean {' or '.join(hint)}?" if hint else f"is unknown; {allowed}"
        )


def _river_classes() -> Iterator[tuple[str, type]]:
    """Every public concrete class of River with its path."""
    todo = [
        (name, getattr(river_api, name))
        for name in sorted(vars(river_api))
        if inspect.ismodule(getattr(river_api, name))
    ]
    while todo:
        path, module = todo.pop()
        if path.rsplit(".", 1)[-1] in _EXCLUDED_MODULES:
            continue
        for name in sorted(getattr(module, "__all__", [])):
            member = getattr(module, name, None)
            if inspect.ismodule(member):
                todo.append((f"{path}.{name}", member))
            elif (
                inspect.isclass(member) and not inspect.isabstract(member) and f"{path}.{name}" not in _EXCLUDED_CLASSES
            ):
                yield f"{path}.{name}", member


RIVER = Namespace(
    {**dict(_river_classes()), "compose.Select": Select, **OWN_MODELS, **AMOUNT_MODELS, **ITEM_MODELS, **FORECASTERS}
)


def build(
    expression: str,
    params: Mapping[str, bool | int | float | str] | None = None,
    names: Namespace = RIVER,
    seeds: Seeds | None = None,
) -> Any:
    """The object that an expression describes.

    Args:
        expression: the text.
        params: what `$name` stands for.
        names: the classes that may be named.
        seeds: fills each `seed` parameter that the expression leaves unset; None leaves them as they are.

    Returns:
        An instance, where the expression is the bare name of a class too.

    Raises:
        ExpressionError: with the place, what is wrong there, and what is allowed.
    """
    return _Builder(expression, params or {}, names, seeds).build()


def parse_expression(expression: str, params: Mapping[str, bool | int | float | str]) -> ast.expr:
    """The tree of an expression, of which nothing is built; a letter stands for the `$` of parameters.

    Raises:
        ExpressionError: it is too long, too deep, or no expression.
    """
    return _Builder(expression, params, RIVER, None)._parse()


def params_used(expression: str) -> tuple[str, ...]:
    """Names after `$` outside of quotes, in order of first use."""
    found = [token[1:] for token in _TOKEN.findall(expression) if token.startswith("$") and len(token) > 1]
    return tuple(dict.fromkeys(found))


class _Builder:
    """One walk over one expression."""

    def __init__(
        self, text: str, params: Mapping[str, bool | int | float | str], names: Namespace, seeds: Seeds | None
    ) -> None:
        self._text = text.strip()
        self._params = params
        self._names = names
        self._seeds = seeds

    def build(self) -> Any:
        return self._value(self._parse(), 0)

    def _parse(self) -> ast.expr:
        if len(self._text) > _LENGTH_MAX:
            raise ExpressionError(f"the expression has {len(self._text)} characters; at most {_LENGTH_MAX} are allowed")
        self._text = self._marked(self._text)
        try:
            # In parentheses, so that lines may be broken anywhere; this moves the first line's columns by
            # one.
            return ast.parse(f"({self._text}\n)", mode="eval").body
        except SyntaxError as error:
            offset = max((error.offset or 1) - (1 if error.lineno == 1 else 0), 1)
            where = f"line {error.lineno or 1}, column {offset}"
            raise ExpressionError(f"{where}: {error.msg}; {_ALLOWED}") from None
        except (ValueError, RecursionError, MemoryError):
            raise ExpressionError(
                f"the expression is nested too deeply or has characters that names cannot have; {_ALLOWED}"
            ) from None

    def _marked(self, text: str) -> str:
        """The text with `$` as a letter, after its bounds are checked."""
        if _PARAM in text:
            raise ExpressionError(f"the character {_PARAM!r} is not allowed")
        depth = operators = 0
        pieces: list[str] = []
        for piece in _TOKEN.findall(text):
            if piece in "([{":
                depth += 1
            elif piece in ")]}":
                depth -= 1
            elif piece in "|+*-~.":
                operators += 1
            elif piece.startswith("$"):
                name = piece[1:]
                if pieces and (pieces[-1][-1].isalnum() or pieces[-1][-1] in "_'\""):
                    raise ExpressionError(f"{piece}: put an operator or space before it")
                if name not in self._params:
                    raise ExpressionError(f"${name}: no such parameter{_choice(name, list(self._params), 'params')}")
            if depth < 0:
                raise ExpressionError(f"unmatched closing bracket; {_ALLOWED}")
            if depth > _NESTING_MAX or operators > _OPERATORS_MAX:
                limits = f"{_NESTING_MAX} nested brackets and {_OPERATORS_MAX} operators"
                raise ExpressionError(f"the expression is too complex; at most {limits} are allowed")
            pieces.append(_PARAM + piece[1:] if piece.startswith("$") else piece)
        if not any(piece.strip() and not piece.startswith("#") for piece in pieces):
            raise ExpressionError(f"the expression is empty; {_ALLOWED}")
        return "".join(pieces)

    def _fail(self, node: ast.expr, message: str) -> ExpressionError:
        source = self._text.split("\n")[node.lineno - 1] if node.lineno else ""
        ahead = 1 if node.lineno == 1 else 0
        column = self._column(source, node.col_offset - ahead) + 1
        end = (
            len(source) if node.end_lineno != node.lineno else self._column(source, (node.end_col_offset or 0) - ahead)
        )
        shown = source[column - 1 : end].replace(_PARAM, "$")
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return ExpressionError(f"line {node.lineno}, column {column}, `{shown}`: {message}")

    def _column(self, source: str, offset: int) -> int:
        """Characters before an offset in bytes, which is what Python's parser counts in."""
        return len(source.encode()[: max(offset, 0)].decode(errors="replace"))

    def _value(self, node: ast.expr, depth: int) -> Any:
        if depth > _NESTING_MAX * 2:
            raise ExpressionError(f"the expression is nested too deeply; at most {_NESTING_MAX} levels are allowed")
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute():
                return self._named(node)
            case ast.Call():
                return self._call(node, depth)
            case ast.List(elts=items):
                return [self._value(item, depth + 1) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self._value(item, depth + 1) for item in items)
            case ast.Dict(keys=keys, values=values):
                return self._mapping(node, keys, values, depth)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                return self._signed(node, sign, operand, depth)
            case ast.BinOp():
                return self._chain(node, depth)
            case ast.Set():
                raise self._fail(node, "a set is unordered, so results would differ between runs; write a list")
        raise self._fail(node, f"is not allowed; {_ALLOWED}")

    def _constant(self, node: ast.Constant) -> Any:
        value = node.value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return value
        if isinstance(value, int) and abs(value) <= _INTEGER_MAX:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        raise self._fail(node, "is not an allowed value: use finite numbers within 64 bits, strings, True, False, None")

    def _mapping(
        self, node: ast.Dict, keys: list[ast.expr | None], values: list[ast.expr], depth: int
    ) -> dict[Any, Any]:
        built = {}
        for key, value in zip(keys, values, strict=True):
            if key is None:
                raise self._fail(node, "`**` is not allowed; write the keys in full")
            if not isinstance(key, ast.Constant | ast.UnaryOp | ast.Name):
                raise self._fail(key, "a key must be a string, a number, True, False or None")
            built[self._value(key, depth + 1)] = self._value(value, depth + 1)
        return built

    def _signed(self, node: ast.UnaryOp, sign: ast.unaryop, operand: ast.expr, depth: int) -> Any:
        value = self._value(operand, depth + 1)
        if not _is_number(value):
            raise self._fail(node, "a sign is only allowed before a number")
        return -value if isinstance(sign, ast.USub) else value

    def _chain(self, node: ast.BinOp, depth: int) -> Any:
        """`a | b | c` from the left, without a stack frame for each."""
        links: list[ast.BinOp] = []
        first: ast.expr = node
        while isinstance(first, ast.BinOp):
            links.append(first)
            first = first.left
        value = self._value(first, depth + 1)
        for link in reversed(links):
            value = self._combine(link, value, self._value(link.right, depth + 1))
        return value

    def _combine(self, node: ast.BinOp, left: Any, right: Any) -> Any:
        if not isinstance(node.op, ast.BitOr | ast.Add | ast.Mult):
            raise self._fail(node, "the only operators allowed are |, + and *")
        if _is_number(left) and _is_number(right):
            return self._computed(node, left, right)
        if not any(isinstance(side, base.Base) for side in (left, right)) or not all(map(_joins, (left, right))):
            raise self._fail(node, "|, + and * combine River objects; write numbers and lists in full")
        try:
            match node.op:
                case ast.BitOr():
                    return left | right
                case ast.Add():
                    return left + right
                case _:
                    return left * right
        except _CONSTRUCTOR_ERRORS as error:
            raise self._fail(node, f"River cannot combine these: {_described(error)}") from None

    def _computed(self, node: ast.BinOp, left: Any, right: Any) -> Any:
        """`24 * 7`, as documentation likes to write a week of hours."""
        value = left * right if isinstance(node.op, ast.Mult) else left + right
        if isinstance(node.op, ast.BitOr) or not math.isfinite(value) or abs(value) > _INTEGER_MAX:
            raise self._fail(node, "numbers can only be added and multiplied, within 64 bits")
        return value

    def _named(self, node: ast.Name | ast.Attribute) -> Any:
        name = self._dotted(node)
        if name.startswith(_PARAM):
            return self._params[name[1:]]
        if name in _TYPES:
            return _TYPES[name]
        return self._construct(node, self._found(node, name), (), {})

    def _dotted(self, node: ast.expr) -> str:
        parts: list[str] = []
        here = node
        while isinstance(here, ast.Attribute):
            parts.append(here.attr)
            here = here.value
        if not isinstance(here, ast.Name) or (parts and here.id.startswith(_PARAM)):
            raise self._fail(node, f"a dot is only allowed in the names of River's modules; {_ALLOWED}")
        return ".".join([here.id, *reversed(parts)])

    def _found(self, node: ast.expr, name: str) -> type:
        try:
            return self._names.find(name)
        except LookupError as error:
            raise self._fail(node, str(error.args[0])) from None

    def _call(self, node: ast.Call, depth: int) -> Any:
        if not isinstance(node.func, ast.Name | ast.Attribute):
            raise self._fail(node, f"only River's classes can be called; {_ALLOWED}")
        name = self._dotted(node.func)
        if name.startswith(_PARAM) or name in _TYPES:
            raise self._fail(node, f"only River's classes can be called; {_ALLOWED}")
        kind = timedelta if name in _DURATIONS else self._found(node.func, name)
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self._fail(argument, "`*` is not allowed before an argument; write the arguments in full")
        read = self._class_or_value if kind in _WRAPPERS_OF_CLASSES else self._value
        args = tuple(read(argument, depth + 1) for argument in node.args)
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self._fail(node, "`**` is not allowed; write the arguments in full")
            keywords[keyword.arg] = read(keyword.value, depth + 1)
        return (
            self._duration(node, args, keywords) if kind is timedelta else self._construct(node, kind, args, keywords)
        )

    def _duration(self, node: ast.expr, args: tuple[Any, ...], keywords: dict[str, Any]) -> timedelta:
        """`timedelta(days=7)`, for windows over time."""
        try:
            made = timedelta(*args, **keywords)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._fail(node, f"{_described(error)}; write a duration as in timedelta(days=7)") from None
        if not timedelta(0) < made <= _DURATION_MAX:
            raise self._fail(node, f"must be more than 0 and at most {_DURATION_MAX.days} days")
        return made

    def _class_or_value(self, node: ast.expr, depth: int) -> Any:
        """A bare name as the class itself, for the two parts of River that want it so."""
        if isinstance(node, ast.Name | ast.Attribute):
            name = self._dotted(node)
            if not name.startswith(_PARAM) and name not in _TYPES:
                return self._found(node, name)
        return self._value(node, depth)

    def _construct(self, node: ast.expr, kind: type, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        signature = inspect.signature(kind)
        try:
            given = signature.bind(*args, **keywords).arguments
        except TypeError as error:
            takes = [name for name, param in signature.parameters.items() if param.kind is not param.VAR_POSITIONAL]
            unknown = [name for name in keywords if name not in takes]
            hint = (
                _choice(unknown[0], takes, "parameters") if unknown else f"; it takes {', '.join(takes) or 'nothing'}"
            )
            raise self._fail(node, f"{error}{hint}") from None
        if kind.__name__ == "OneHotEncoder" and given.get("categories") is not None:
            raise self._fail(node, "`categories` are kept in sets, so results would differ between runs; remove them")
        if self._seeds is not None and "seed" in signature.parameters and given.get("seed") is None:
            if "seed" not in given or "seed" in keywords:
                keywords = {**keywords, "seed": self._seeds.next(kind)}
            else:
                raise self._fail(node, "write the seed as seed=..., or omit it")
        try:
            return kind(*args, **keywords)
        except UnseededError:
            raise
        except _CONSTRUCTOR_ERRORS as error:
            raise self._fail(node, f"River refuses this: {_described(error)}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _joins(side: Any) -> bool:
    """Whether it can stand beside an operator: an object, one with a name, names to group by."""
    if isinstance(side, list | tuple) and len(side) <= _OPERATORS_MAX:
        return all(isinstance(part, base.Base | str | list) for part in side)
    return isinstance(side, base.Base | str)


_ALLOWED = (
    "allowed are River's classes by name, timedelta, calls, keywords, numbers, strings, lists, tuples, dicts, True, "
    "False, None, $parameters, and |, +, *"
)


def _choice(word: str, allowed: list[str], what: str) -> str:
    close = get_close_matches(word, allowed, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else ";"
    return f"{hint} {what}: {', '.join(allowed) if allowed else 'none'}"


def _described(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
