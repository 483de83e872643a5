"""A pipeline out of a topic or a file that others may have written: compared first, built afterwards.

To build a pipeline is to call things: a factory is anybody's code, and an expression takes as much memory as its
numbers say. So of a document that is not the operator's own file nothing is built until it was held against that file:

* a factory is called only if the operator's file names that very one, with the same params;
* an expression that stands in the operator's file is built as it is there;
* any other one (of an epoch before the file was changed) is River's own and no code, and is built if what its numbers
  ask for is modest: see `check_modest`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from driftline.core.error import ExpressionError, PipelineError, Problem
from driftline.core.notation import Scalar, is_factory
from driftline.core.pipeline.form import Pipeline
from driftline.core.pipeline.parse import parse_pipeline, read_pipeline
from driftline.core.river.building import METRICS
from driftline.core.river.expression import parse_expression

_LOOSE = frozenset({"seed", "grace_period", "memory_estimate_period", "n_features", "none_value", "unknown_value"})
"""Parameters whose number costs nothing, however large it is."""

_COPIES = {"n_models": 10_000, "n_estimators": 10_000, "n_trees": 200, "n_random_cuts": 1_000, "code_size": 10_000}
"""Parameters that multiply what a part holds, and the bytes that one of them takes at least."""

_MOST = {
    "burn_in_sweeps": 100, "degree": 5, "height": 20, "lam": 1_000, "lambda_value": 1_000, "m": 1_000,
    "max_iter_e_step": 1_000, "n_iters": 1_000, "number_of_samples": 1_000, "w": 1_000,
}  # fmt: skip
"""The most of those that multiply the work of each event."""

_NUMBER_MAX = 1_000_000
_LISTED_MAX = 2_000  # of a number in a list: widths of layers, which multiply
_ENTRY_BYTES = 100
BYTES_MAX = 256 * 1024 * 1024


def parse_foreign(doc: object, own: Pipeline) -> Pipeline:
    """The pipeline of a document that the operator did not write.

    Args:
        doc: as `Pipeline.resolved` gives it.
        own: of the operator's file.

    Raises:
        PipelineError: it cannot be read, names another factory, or asks for too much. Nothing was built then.
    """
    read = read_pipeline(doc)
    if problems := [*_another_factory(read, own), *_immodest(read, own)]:
        raise PipelineError(problems)
    return parse_pipeline(doc)


def _another_factory(read: Pipeline, own: Pipeline) -> Iterator[Problem]:
    second = (None, None) if read.guard is None else (read.guard.second, own.guard and own.guard.second)
    for place, theirs, ours in (("model", read.model, own.model), ("guard.fallback", *second)):
        if theirs is not None and is_factory(theirs):
            yield from _other_factory(place, theirs, ours or "", read, own)


def _other_factory(place: str, theirs: str, ours: str, read: Pipeline, own: Pipeline) -> Iterator[Problem]:
    ways = "restore that factory in the file, or start with --reset-state"
    if theirs.strip() != ours.strip():
        text = f"is a factory that is not in the pipeline file, so it is not called; {ways}"
        yield Problem(place, theirs[:200], text)
    elif not _equal(read.params, own.params) or read.seed != own.seed:
        text = "differ from those in the pipeline file, so the factory is not called; restore the params"
        yield Problem("params", None, f"{text}, or start with --reset-state")


def _equal(one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> bool:
    """Values and types alike: 1, 1.0 and true are equal, and not the same to a factory."""
    return one == other and all(type(one[name]) is type(other[name]) for name in one)


def _immodest(read: Pipeline, own: Pipeline) -> Iterator[Problem]:
    trusted = set(_expressions(own)) if _equal(read.params, own.params) else set()
    total = 0.0
    for text in dict.fromkeys(_expressions(read)):
        if text in trusted:
            continue
        try:
            total += check_modest(text, read.params)
        except ExpressionError as error:
            yield Problem("", text[:200], f"is only built if it is in the pipeline file: {error}")
    if total > BYTES_MAX:
        yield Problem("", None, f"its expressions need {total:,.0f} bytes in total; the limit is {BYTES_MAX:,}")


def _expressions(pipeline: Pipeline) -> Iterator[str]:
    """Every text that building the pipeline would build."""
    if not is_factory(pipeline.model):
        yield pipeline.model
    if pipeline.guard is not None and pipeline.guard.second is not None and not is_factory(pipeline.guard.second):
        yield pipeline.guard.second
    yield from pipeline.metrics
    for _, _, watches in pipeline.drift.every():
        for watch in watches:
            yield watch.detector
            if watch.warning is not None:
                yield watch.warning


def check_modest(text: str, params: Mapping[str, Scalar]) -> float:
    """What an expression asks for, in bytes, roughly, without building anything of it.

    Numbers are at most a million, those that multiply work are at most what `_MOST` says, and what ensembles and
    windows hold together is at most `BYTES_MAX`.

    Raises:
        ExpressionError: it asks for more, or is not an expression.
    """
    found = _Measure(params).of(parse_expression(text, params))
    if found > BYTES_MAX:
        raise ExpressionError(f"it needs {found:,.0f} bytes; the limit is {BYTES_MAX:,}")
    return found


class _Measure:
    """Bytes of what a tree of an expression would build."""

    def __init__(self, params: Mapping[str, Scalar]) -> None:
        self._params = params

    def of(self, root: ast.expr) -> float:
        if (number := self._number(root)) is not None:
            _check("", number, _LISTED_MAX)
            return _ENTRY_BYTES
        if isinstance(root, ast.BinOp):
            return sum(map(self.of, _operands(root)))
        if not isinstance(root, ast.Call):
            return sum(self.of(part) for part in ast.iter_child_nodes(root) if isinstance(part, ast.expr))
        copies, bytes_each, once = 1.0, float(_ENTRY_BYTES), 0.0
        for name, argument in self._arguments(root):
            number = self._number(argument)
            if number is None:
                bytes_each += self.of(argument)
            elif name not in _LOOSE:
                _check(name, number, _MOST.get(name, _NUMBER_MAX))
                size = max(abs(number), 1.0)
                if name == "height":
                    copies *= 2.0**size
                elif name in _COPIES:
                    copies *= size
                    bytes_each += _COPIES[name]
                elif isinstance(number, int):
                    once += size * _ENTRY_BYTES
        return copies * bytes_each + once

    def _arguments(self, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
        """Of a call, by the names that its class gives them."""
        try:
            names = list(inspect.signature(METRICS.find(ast.unparse(call.func))).parameters)
        except LookupError as error:
            raise ExpressionError(f"`{ast.unparse(call.func)[:60]}` {error.args[0]}") from None
        for place, argument in enumerate(call.args):
            yield names[place] if place < len(names) else "", argument
        for keyword in call.keywords:
            yield keyword.arg or "", keyword.value

    def _number(self, node: ast.expr) -> int | float | None:
        """The value of a number, of a parameter that is one, and of several of them joined at most their product."""
        match node:
            case ast.Constant(value=value):
                return _counted(value)
            case ast.Name(id=name) if name[1:] in self._params and not name[0].isascii():
                return _counted(self._params[name[1:]])
            case ast.UnaryOp(operand=ast.Constant() | ast.Name() as operand):
                return self._number(operand)
            case ast.BinOp():
                found = [self._number(part) for part in _operands(node)]
                numbers = [number for number in found if number is not None]
                return prod(max(abs(number), 2) for number in numbers) if len(numbers) == len(found) else None
        return None


def _operands(node: ast.BinOp) -> list[ast.expr]:
    """What a chain of operators joins, without a stack frame for each."""
    found: list[ast.expr] = []
    waiting: list[ast.expr] = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.BinOp):
            waiting += [part.left, part.right]
        else:
            found.append(part)
    return found


def _counted(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _check(name: str, number: float, most: float) -> None:
    if not abs(number) <= most:
        named = f"{name} = " if name else ""
        raise ExpressionError(f"{named}{number:.6g} exceeds {most:,}")
