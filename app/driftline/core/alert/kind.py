"""The kinds of alert: whom each is for, and what it is counted by. A kind without its row does not type-check."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

from msgspec import Struct

if TYPE_CHECKING:
    from driftline.core.pipeline import AlertKind, Role

Counted: TypeAlias = Literal["events", "labels"]


class Row(Struct, frozen=True, gc=False):
    """All there is to know of a kind.

    Args:
        counted: what has to come for its signal to have been observed: where nothing came, silence is not quiet.
        audience: whom it is for, unless the pipeline file says otherwise.
    """

    counted: Counted
    audience: tuple[Role, ...]


def worded(kind: object) -> str:
    """A kind as people read it, one term everywhere."""
    return _WORDED.get(str(kind), str(kind).replace("_", " "))


_WORDED = {"quarantine": "suspect labels", "kpi": "KPI"}


@cache
def row_of(kind: AlertKind) -> Row:
    """The row of a kind."""
    match kind:
        case "data_drift":
            return Row("events", ("data_engineering", "data_science"))
        case "concept_drift":
            return Row("labels", ("data_science", "domain_expert"))
        case "score_drift":
            return Row("events", ("data_science", "operations"))
        case "performance" | "kpi":
            return Row("labels", ("data_science", "domain_expert"))
        case "label_coverage" | "label_delay":
            return Row("labels", ("data_engineering", "data_science"))
        case "label_match":
            return Row("labels", ("data_engineering", "operations"))
        case "data_quality":
            return Row("events", ("data_engineering",))
        case "model_failure":
            return Row("events", ("operations", "data_science"))
        case "model_change":
            return Row("events", ("data_science", "operations"))
        case "guard":
            return Row("events", ("operations", "data_science", "domain_expert"))
        case "quarantine":
            return Row("labels", ("data_science", "data_engineering", "domain_expert"))
        case "throughput":
            return Row("events", ("operations", "data_engineering"))
        case _:
            assert_never(kind)
