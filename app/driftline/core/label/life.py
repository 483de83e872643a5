"""The life of a label as a table: in each state, what is done when something happens, and which state comes next.

    state x happening -> (act, next state)

A state is what a shard knows of one event id: the ledger keeps it as a fate and a note, and labels that came first are
in `early`. `fold.feedback` looks each move up here and does what the act says. Where the pipeline file decides, the
cell names its rules, and `life_of` reads them once for each shard.

Each state has a row (else no shard can be made) and each row all cells (else it does not type-check). To change what
becomes of a label, change a cell; a new act needs a function in `fold.feedback`. `docs/labels.md` is made from this
table by `python -m tests.support.life`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, unique
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import Struct

from driftline.core.error import InvariantError
from driftline.core.label import fate as fates
from driftline.core.label.fate import Fate
from driftline.core.pipeline.input import Assume

if TYPE_CHECKING:
    from driftline.core.output import OutcomeKind
    from driftline.core.pipeline.input import LabelForm


@unique
class State(IntEnum):
    """What a shard knows of an event id.

    Attributes:
        fate: in the ledger.
        noted: the ledger also has a note: the label that may be corrected, or how many labels came.
        says: what it is, for the docs.
    """

    fate: Fate
    noted: bool
    says: str

    def __new__(cls, number: int, fate: Fate, noted: bool, says: str) -> State:
        made = int.__new__(cls, number)
        made._value_, made.fate, made.noted, made.says = number, fate, noted, says
        return made

    UNKNOWN = 0, fates.GONE, False, "neither the event nor a label of it is known: none has come, or it was forgotten"
    HELD = 1, fates.GONE, False, "the label came before the event, and is held"
    WAITING = 2, fates.WAITING, False, "the event was scored and waits for its label"
    PARTLY = 3, fates.WAITING, True, "it has a label and waits for more"
    LABELLED = 4, fates.LABELLED, True, "it has its label, which may still be corrected or retracted"
    LABELLED_FINAL = 5, fates.LABELLED, False, "it has its label"
    ASSUMED = 6, fates.ASSUMED, True, "no label came and one was assumed, which may still be corrected"
    ASSUMED_FINAL = 7, fates.ASSUMED, False, "no label came and one was assumed"
    RETRACTED = 8, fates.RETRACTED, True, "its label was retracted, and another may come"
    RETRACTED_FINAL = 9, fates.RETRACTED, False, "its label was retracted"
    EXPIRED = 10, fates.EXPIRED, False, "no label came"


def _kept_as(*, noted: bool) -> tuple[State, ...]:
    """By fate, the state of an event with a note or without one."""
    found = [[state for state in State if state.fate == kept] for kept in range(fates.RETRACTED + 1)]
    return tuple(next((state for state in states if state.noted == noted), states[0]) for states in found)


BARE: Final = _kept_as(noted=False)
NOTED: Final = _kept_as(noted=True)


@unique
class Rule(Enum):
    """What the `label` section of a pipeline file decides, as it is written there."""

    CORRECT = "second: correct"
    RETRACT = "retract: true"
    LATE = "late: correct"
    ASSUME = "missing: {assume: VALUE}"
    SEVERAL = "labels_max"
    GATHER = "item"


def rules_of(label: LabelForm | None) -> frozenset[Rule]:
    if label is None:
        return frozenset()
    rules = {
        Rule.CORRECT: label.second == "correct",
        Rule.RETRACT: label.retract,
        Rule.LATE: label.late == "correct",
        Rule.ASSUME: isinstance(label.missing, Assume),
        Rule.SEVERAL: label.labels_max > 1,
        Rule.GATHER: label.item is not None,
    }
    return frozenset(rule for rule, chosen in rules.items() if chosen)


class Deed(Struct, frozen=True):
    """All there is to know of an act.

    Args:
        does: what is done, for the docs.
        kind: of the outcome that is published; None where there is none.
        detail: why, in that outcome; None where the kind says it all, or the caller knows it.
        closed: counted as `uncorrectable`: the time for corrections, or the room for them, is over.
    """

    does: str
    kind: OutcomeKind | None = None
    detail: str | None = None
    closed: bool = False

    @property
    def published(self) -> OutcomeKind:
        if self.kind is None:
            raise InvariantError(f"nothing is published where a label is {self.does}")
        return self.kind


_OVER: Final = "it is past correct_for or correct_max"


@unique
class Act(Enum):
    """What is done about a label, or where none came."""

    HOLD = Deed("held, up to `labels_max` of an event")
    HELD_STANDS = Deed("ignored", "duplicate", "a label for this event is already held; the first one counts")
    REPLACE = Deed("held in place of the first", "corrected", "it replaces a label that was held for its event")
    DROP = Deed("the held label is dropped", "retracted", "the label was still held for its event")
    ORPHAN = Deed("the label is dropped", "orphan")
    JOIN = Deed("evaluated and learned", "joined")
    ADD = Deed("evaluated and learned; the wait ends with the last that `labels_max` allows", "joined")
    GATHER = Deed("kept until the wait ends: of several rewards for an item the greatest, of other items none")
    REAP = Deed("the rewards are evaluated and learned, 0 of items without", "joined")
    EARN_NOTHING = Deed("rewards of 0 are evaluated and learned", "assumed")
    EXPIRE = Deed("the event is dropped", "expired")
    ASSUME = Deed("the assumed label is evaluated and learned", "assumed")
    COMPLETE = Deed("no more labels are accepted")
    STANDS = Deed("ignored", "duplicate", "the event already has its label; the first one counts")
    FULL = Deed("ignored", "duplicate", "the event already has as many labels as labels_max allows")
    SAME = Deed("ignored", "duplicate", "the event already has this label")
    CORRECT = Deed("metrics take the former label back; this one is evaluated and learned", "corrected")
    REJOIN = Deed("evaluated and learned again", "joined")
    CONFIRM = Deed(
        "counted; it was learned when it was assumed",
        "late",
        "the label arrived after the wait and is the one that was assumed",
    )
    TOO_LATE = Deed("ignored", "late", "the label arrived after the wait")
    CLOSED = Deed("ignored", "duplicate", f"the label can no longer be corrected: {_OVER}", closed=True)
    CLOSED_LATE = Deed("ignored", "late", f"the label can no longer be corrected: {_OVER}", closed=True)
    RETRACT = Deed("metrics take the label back; nothing is learned", "retracted")
    KEPT = Deed("ignored", "unretracted", f"the label can no longer be retracted: {_OVER}", closed=True)
    NO_LABEL = Deed("ignored", "unretracted", "the event has no label")
    NO_EVENT = Deed("ignored", "unretracted", "no label of this event is known")
    NEVER = Deed("it cannot happen")

    __hash__ = object.__hash__  # an act is looked up for every label, and Enum's own is slow

    @property
    def deed(self) -> Deed:
        return self.value

    def to(self, then: State) -> Move:
        return Move(self, then)


class Move(Struct, frozen=True):
    """What is done, and the next state."""

    act: Act
    then: State


class If(Struct, frozen=True):
    """It depends on whether the pipeline has any of these rules."""

    rules: tuple[Rule, ...]
    yes: Act | Move
    no: Cell


Cell: TypeAlias = Act | Move | If
"""An act alone leaves the state as it is."""


class Row(Struct, frozen=True, kw_only=True):
    """What happens in one state.

    Args:
        event: an event with this id comes: the next state, in which held labels then come one by one. Where the state
            stays, the event is rejected as `duplicate_event`.
        label: a label comes, other than the one that is known.
        same: the label that is known comes again.
        retraction: a label of null comes.
        end: the wait ends, at its deadline or because too many wait.
        closing: the time for corrections ends, or the room for them.
        forgetting: the id is forgotten. What waits, or may be corrected, stays known until that is over.
    """

    event: State
    label: Cell
    same: Cell
    retraction: Cell
    end: Cell
    closing: State
    forgetting: State


_SEVERAL, _CORRECT, _GATHER = (Rule.SEVERAL,), (Rule.CORRECT,), (Rule.GATHER,)
_STANDS: Final = If(_SEVERAL, Act.FULL, Act.STANDS)

TABLE: Final[Mapping[State, Row]] = {
    State.UNKNOWN: Row(
        event=State.WAITING,
        label=Act.HOLD.to(State.HELD),
        same=Act.NEVER,
        retraction=Act.NO_EVENT,
        end=Act.NEVER,
        closing=State.UNKNOWN,
        forgetting=State.UNKNOWN,
    ),
    State.HELD: Row(
        event=State.WAITING,
        label=If((Rule.SEVERAL, Rule.GATHER), Act.HOLD, If(_CORRECT, Act.REPLACE, Act.HELD_STANDS)),
        same=If((Rule.SEVERAL, Rule.GATHER), Act.HOLD, Act.HELD_STANDS),
        retraction=Act.DROP.to(State.UNKNOWN),
        end=Act.ORPHAN.to(State.UNKNOWN),
        closing=State.HELD,
        forgetting=State.HELD,
    ),
    State.WAITING: Row(
        event=State.WAITING,
        label=If(
            _GATHER,
            Act.GATHER.to(State.PARTLY),
            If(
                _SEVERAL,
                Act.ADD.to(State.PARTLY),
                If((Rule.CORRECT, Rule.RETRACT), Act.JOIN.to(State.LABELLED), Act.JOIN.to(State.LABELLED_FINAL)),
            ),
        ),
        same=Act.NEVER,
        retraction=Act.NO_LABEL,
        end=If(
            _GATHER,
            Act.EARN_NOTHING.to(State.ASSUMED_FINAL),
            If(
                (Rule.LATE,),
                Act.ASSUME.to(State.ASSUMED),
                If((Rule.ASSUME,), Act.ASSUME.to(State.ASSUMED_FINAL), Act.EXPIRE.to(State.EXPIRED)),
            ),
        ),
        closing=State.WAITING,
        forgetting=State.WAITING,
    ),
    State.PARTLY: Row(
        event=State.PARTLY,
        label=If(_GATHER, Act.GATHER, Act.ADD),
        same=Act.NEVER,
        retraction=Act.NO_LABEL,
        end=If(_GATHER, Act.REAP.to(State.LABELLED_FINAL), Act.COMPLETE.to(State.LABELLED_FINAL)),
        closing=State.PARTLY,
        forgetting=State.PARTLY,
    ),
    State.LABELLED: Row(
        event=State.LABELLED,
        label=If(_CORRECT, Act.CORRECT, _STANDS),
        same=If(_CORRECT, Act.SAME, _STANDS),
        retraction=Act.RETRACT.to(State.RETRACTED),
        end=Act.NEVER,
        closing=State.LABELLED_FINAL,
        forgetting=State.LABELLED,
    ),
    State.LABELLED_FINAL: Row(
        event=State.LABELLED_FINAL,
        label=If(_GATHER, Act.TOO_LATE, If(_CORRECT, Act.CLOSED, _STANDS)),
        same=Act.NEVER,
        retraction=Act.KEPT,
        end=Act.NEVER,
        closing=State.LABELLED_FINAL,
        forgetting=State.UNKNOWN,
    ),
    State.ASSUMED: Row(
        event=State.ASSUMED,
        label=Act.CORRECT.to(State.LABELLED),
        same=Act.CONFIRM.to(State.LABELLED),
        retraction=Act.NO_LABEL,
        end=Act.NEVER,
        closing=State.ASSUMED_FINAL,
        forgetting=State.ASSUMED,
    ),
    State.ASSUMED_FINAL: Row(
        event=State.ASSUMED_FINAL,
        label=If((Rule.LATE,), Act.CLOSED_LATE, Act.TOO_LATE),
        same=Act.NEVER,
        retraction=Act.NO_LABEL,
        end=Act.NEVER,
        closing=State.ASSUMED_FINAL,
        forgetting=State.UNKNOWN,
    ),
    State.RETRACTED: Row(
        event=State.RETRACTED,
        label=Act.REJOIN.to(State.LABELLED),
        same=Act.NEVER,
        retraction=Act.NO_LABEL,
        end=Act.NEVER,
        closing=State.RETRACTED_FINAL,
        forgetting=State.RETRACTED,
    ),
    State.RETRACTED_FINAL: Row(
        event=State.RETRACTED_FINAL,
        label=Act.CLOSED_LATE,
        same=Act.NEVER,
        retraction=Act.NO_LABEL,
        end=Act.NEVER,
        closing=State.RETRACTED_FINAL,
        forgetting=State.UNKNOWN,
    ),
    State.EXPIRED: Row(
        event=State.EXPIRED,
        label=Act.TOO_LATE,
        same=Act.NEVER,
        retraction=Act.NO_LABEL,
        end=Act.NEVER,
        closing=State.EXPIRED,
        forgetting=State.UNKNOWN,
    ),
}


class Moves(Struct, frozen=True):
    """A row under the rules of one pipeline."""

    label: Move
    same: Move
    retraction: Move
    end: Move


Life: TypeAlias = tuple[Moves, ...]
"""The table under the rules of one pipeline, by state."""


def life_of(rules: frozenset[Rule]) -> Life:
    def move(state: State, cell: Cell) -> Move:
        while isinstance(cell, If):
            cell = cell.no if rules.isdisjoint(cell.rules) else cell.yes
        return cell.to(state) if isinstance(cell, Act) else cell

    def moves(state: State, row: Row) -> Moves:
        cells = (row.label, row.same, row.retraction, row.end)
        return Moves(*(move(state, cell) for cell in cells))

    return tuple(moves(state, TABLE[state]) for state in State)
