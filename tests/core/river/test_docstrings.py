"""River's own documentation is the grammar: models that its docstrings build must build here too.

The docstrings of the installed River are read with the doctest parser. Every expression that is assigned to a name, or
stands alone, and makes a model is put into a minimal pipeline of its task, through the code that `driftline check`
runs. Names of modules that an example imports by another name are written out first, and variables of earlier lines
are put in where they are expressions themselves.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version

import pytest
import river

from driftline.core.error import PipelineError
from driftline.core.pipeline import parse_pipeline
from driftline.core.river.expression import RIVER

_TASKS = ("binary", "multiclass", "regression", "anomaly")
_LEAST = 100


def _docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of River's public modules and classes, with its place."""
    seen: set[str] = set()
    for module_info in sorted(pkgutil.walk_packages(river.__path__, "river."), key=lambda found: found.name):
        if any(part.startswith("test_") for part in module_info.name.split(".")):
            continue
        try:
            module = import_module(module_info.name)
        except ImportError:  # an optional dependency that River's own extras would bring
            continue
        for name, member in sorted(vars(module).items()):
            if inspect.isclass(member) and member.__module__ == module.__name__:
                place = f"{module.__name__}.{name}"
                if place not in seen and member.__doc__:
                    seen.add(place)
                    yield place, member.__doc__


class _WriteOut(ast.NodeTransformer):
    """Puts module paths for imported names, and expressions for variables."""

    def __init__(self, imported: dict[str, str], assigned: dict[str, ast.expr]) -> None:
        self.imported = imported
        self.assigned = assigned

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.assigned:
            return self.assigned[node.id]
        if node.id in self.imported:
            written: ast.expr = ast.parse(self.imported[node.id], mode="eval").body
            return written
        return node


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "river":
        package = (node.module or "").removeprefix("river").removeprefix(".")
        for alias in node.names:
            yield alias.asname or alias.name, ".".join(filter(None, (package, alias.name)))


def _expressions(docstring: str) -> Iterator[str]:
    """The expressions of one docstring's examples, self-contained as far as earlier lines allow."""
    imported: dict[str, str] = {}
    assigned: dict[str, ast.expr] = {}
    for example in doctest.DocTestParser().get_examples(docstring):
        try:
            statements = ast.parse(example.source).body
        except SyntaxError:
            continue
        for statement in statements:
            value: ast.expr | None = None
            match statement:
                case ast.Import() | ast.ImportFrom():
                    imported.update(_imports(statement))
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    value = _WriteOut(imported, assigned).visit(value)
                    assigned[name] = value
                case ast.AugAssign(target=ast.Name(id=name), op=op, value=value) if name in assigned:
                    value = ast.BinOp(assigned[name], op, _WriteOut(imported, assigned).visit(value))
                    assigned[name] = value
                case ast.Expr(value=value):
                    value = _WriteOut(imported, assigned).visit(value)
            if value is not None:
                yield ast.unparse(ast.fix_missing_locations(value))


def _makes_estimator(expression: str) -> bool:
    """Whether it is, by its looks, a construction of River's objects: a call or a chain of them."""
    tree = ast.parse(expression, mode="eval").body
    if isinstance(tree, ast.BinOp):
        return isinstance(tree.op, ast.BitOr)
    if not isinstance(tree, ast.Call):
        return False
    name = ast.unparse(tree.func)
    try:
        kind = RIVER.find(name)
    except LookupError:
        return False
    return issubclass(kind, river.base.Estimator)


def _refusal(expression: str) -> str | None:
    """None if some task takes the model, else why the last one does not."""
    why = ""
    for task in _TASKS:
        doc: dict[str, object] = {
            "pipeline": "doc",
            "task": task,
            "event": {"id": "id", "features": dict.fromkeys(_names(expression) or ["x"], "number")},
            "model": expression,
        }
        if task != "anomaly":
            doc["label"] = {"id": "id", "value": "y", "wait": "1h"}
        try:
            parse_pipeline(doc)
        except PipelineError as error:
            told = str(error)
            if not why or "its last step is" in why:
                why = told
        else:
            return None
    return why


def _names(expression: str) -> list[str]:
    """Names of features in the expression: what Select takes, and what aggregates work `on` and `by`."""
    names: list[str] = []
    for call in ast.walk(ast.parse(expression, mode="eval")):
        if not isinstance(call, ast.Call):
            continue
        named = [keyword.value for keyword in call.keywords if keyword.arg in {"on", "by"}]
        if ast.unparse(call.func).endswith("Select"):
            named += call.args
        names += [str(arg.value) for arg in named if isinstance(arg, ast.Constant)]
    return list(dict.fromkeys(names))


@pytest.mark.slow
def test_models_of_rivers_docstrings_build(capsys: pytest.CaptureFixture[str]) -> None:
    built: set[str] = set()
    refused: dict[str, str] = {}
    for _, docstring in _docstrings():
        for expression in _expressions(docstring):
            if expression in built or expression in refused or not _makes_estimator(expression):
                continue
            why = _refusal(expression)
            if why is None:
                built.add(expression)
            else:
                refused[expression] = why
    with capsys.disabled():
        print(f"\n{len(built)} models of River {version('river')}'s docstrings build, {len(refused)} do not:")
        for reason, count in Counter(_reason(why) for why in refused.values()).most_common():
            print(f"  {count:3} {reason}")
    assert len(built) >= _LEAST


def _reason(why: str) -> str:
    """The kind of refusal, without the names in it."""
    kind = re.search(r"its last step is \w+, ([^;,]+)", why)
    if kind:
        return f"ends in {kind[1]}"
    return why.split("`: ")[-1].split("\n")[0].split(";")[0][:100]
