"""The tables of `docs/labels.md`, made from the table in the code. `python -m tests.support.life` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from driftline.core.label.life import TABLE, Act, Cell, If, Move, Rule, State

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "labels.md"
HAPPENINGS: Final = {
    "label": "a label",
    "same": "the same label again",
    "retraction": "a retraction",
    "end": "the wait ends",
}
_PART: Final = r"(?<=<!-- made: {} -->\n\n).*?(?=\n\n<!-- /made -->)"


def written(page: str) -> str:
    """The page with its tables as the code has them."""
    for name, rows in (("states", states()), ("moves", moves())):
        parts = re.split(_PART.format(name), page, flags=re.DOTALL)
        if len(parts) != 2:
            raise ValueError(f"docs/labels.md has no place for the table of {name}")
        page = "\n".join(rows).join(parts)
    return page


def states() -> Iterator[str]:
    yield "| state | meaning | its event comes | the time for corrections ends | the id is forgotten |"
    yield "| --- | --- | --- | --- | --- |"
    for state in State:
        row = TABLE[state]
        event = f"`{title(row.event)}`" if row.event is not state else "rejected as `duplicate_event`"
        cells = (f"`{title(state)}`", state.says, event, _next(state, row.closing), _next(state, row.forgetting))
        yield f"| {' | '.join(cells)} |"


def moves() -> Iterator[str]:
    yield "| state | what happens | if | what is done | outcome, and its `detail` | next state |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for state in State:
        for name, usual in HAPPENINGS.items():
            happening = "`early` is over" if (state, name) == (State.HELD, "end") else usual
            for condition, move in cases(state, getattr(TABLE[state], name)):
                deed = move.act.deed
                done = f"{deed.does}, and counted as `uncorrectable`" if deed.closed else deed.does
                outcome = "" if deed.kind is None else f"`{deed.kind}`"
                if deed.detail:
                    outcome += f": {deed.detail}"
                yield (
                    f"| `{title(state)}` | {happening} | {condition} | {done} | {outcome} | {_next(state, move.then)} |"
                )


def cases(state: State, cell: Cell) -> Iterator[tuple[str, Move]]:
    """Every move that a cell may mean, and under which rules, the first that holds."""
    branched = False
    while isinstance(cell, If):
        yield " or ".join(_words(rule) for rule in cell.rules), _move(state, cell.yes)
        cell, branched = cell.no, True
    if cell is not Act.NEVER:
        yield "otherwise" if branched else "", _move(state, cell)


def title(state: State) -> str:
    return state.name.lower().replace("_", ", ")


def _words(rule: Rule) -> str:
    return "`labels_max` > 1" if rule is Rule.SEVERAL else f"`{rule.value}`"


def _move(state: State, cell: Act | Move) -> Move:
    return cell.to(state) if isinstance(cell, Act) else cell


def _next(state: State, then: State) -> str:
    return "" if then is state else f"`{title(then)}`"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
