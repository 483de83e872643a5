"""Commands that import their implementation only when they run.

`cli.command` declares them: options, help, and what must fit between the options of one call. It imports nothing
that takes time, so help and wrong usage cost hardly more than starting Python. What a command does is in the module of
`cli` that has its name, and may need River.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

Declared = Callable[[], None]


def does(path: str, *, check: Callable[..., None] | None = None) -> Callable[[Declared], Callable[..., Any]]:
    """Turn a declaration, which holds the help alone, into a call of the function at `package.module:function`.

    Args:
        path: of the function; it gets the values of the options, by their names.
        check: gets the same before anything is imported, and raises click.UsageError where they do not fit together.
    """

    def of(declared: Declared) -> Callable[..., Any]:
        @wraps(declared)
        def call(*context: Any, **given: Any) -> Any:
            if check is not None:
                check(**given)
            return found(path)(*context, **given)

        vars(call)["path"] = path
        return call

    return of


def found(path: str) -> Any:
    """What is at `package.module:name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
