"""Select, in the order in which it is written.

River's own `compose.Select` keeps its names in a set, so the order in which features reach the next step, and
with it the last bits of every sum, depends on PYTHONHASHSEED. This one stands for it in every expression.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from river import base


class Select(base.Transformer):
    """Passes the named features on, in the order of the names, and drops the others.

    A feature that an event does not have (`missing: omit`) is left out.

    Args:
        keys: names of features; a name that comes again counts once.

    Raises:
        TypeError: a name is not text.
    """

    def __init__(self, *keys: str) -> None:
        for key in keys:
            if not isinstance(key, str):
                raise TypeError(f"takes names of features as strings, as in Select('amount'), not {key!r}")
        self.keys = tuple(dict.fromkeys(keys))

    def transform_one(self, x: dict[Hashable, Any]) -> dict[Hashable, Any]:
        return {key: x[key] for key in self.keys if key in x}

    def __str__(self) -> str:
        return str(list(self.keys))

    def __repr__(self) -> str:
        return f"Select({', '.join(map(repr, self.keys))})"
