"""Documents in which one field after another is missing, of another kind or absurd: what attackers try first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Final

ABSURD: Final[Sequence[Any]] = (
    None, True, -1, 0, 2**53 + 1, 2**63 - 1, 2**64 - 1, 1e308, 0.5, "", "x", "\0", "é" * 1_000, [], [[]], {}, {"": {}},
)  # fmt: skip


class Missing:
    def __repr__(self) -> str:
        return "missing"


MISSING: Final = Missing()

Path = tuple[str | int, ...]


def changed(document: dict[str, Any], *, depth: int = 3, values: Sequence[Any] = ABSURD) -> Iterator[tuple[str, Any]]:
    """Copies of a document with one change each, and what was changed.

    Args:
        depth: how many keys deep.
        values: what stands in each place in turn; it is left out once, too.
    """
    for path in list(_paths(document, depth)):
        for value in (MISSING, *values):
            yield f"{'.'.join(map(str, path))} = {value!r:.40}", _with(document, path, value)


def _paths(document: Any, depth: int) -> Iterator[Path]:
    inner = document.items() if isinstance(document, dict) else enumerate(document[:2])
    for key, value in inner:
        yield (key,)
        if depth > 1 and isinstance(value, dict | list):
            for path in _paths(value, depth - 1):
                yield (key, *path)


def _with(document: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    made = deepcopy(document)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made
