"""The table of a label's life is whole, is what the code does in every state it can reach, and is what the docs say."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import Any

import pytest
from msgspec import structs

from driftline.core.label.life import BARE, NOTED, TABLE, Act, Move, Rule, State, life_of, rules_of
from driftline.core.label.pending import Found
from driftline.core.output import Outcome
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, Record, Tick
from driftline.core.shard.state import Shard
from driftline.core.slate import reward_text
from tests.support.life import HAPPENINGS, PAGE, cases, written
from tests.support.small import NOW_MS, event, fold, kinds, label, small

WAIT_MS, CORRECT_MS, IDS_MAX = 100_000, 10_000, 2
SECTIONS: dict[Rule, dict[str, Any]] = {
    Rule.CORRECT: {"second": "correct"},
    Rule.RETRACT: {"retract": True},
    Rule.LATE: {"late": "correct"},
    Rule.ASSUME: {"missing": {"assume": 0}},
    Rule.SEVERAL: {"labels_max": 3},
    Rule.GATHER: {},
}


def allowed() -> Iterator[frozenset[Rule]]:
    """Every set of rules that a pipeline file may have."""
    for count in range(len(Rule) + 1):
        for chosen in map(frozenset, combinations(Rule, count)):
            contrary = Rule.SEVERAL in chosen and not chosen.isdisjoint({Rule.CORRECT, Rule.RETRACT})
            contrary |= Rule.GATHER in chosen and len(chosen) > 1
            if not contrary and (Rule.LATE not in chosen or Rule.ASSUME in chosen):
                yield chosen


@cache
def pipeline_of(rules: frozenset[Rule]) -> Pipeline:
    section = {key: value for rule in rules for key, value in SECTIONS[rule].items()}
    sections: dict[str, Any] = {"label": {**section, "correct_for": f"{CORRECT_MS}ms"}, "dedupe": {"max": IDS_MAX}}
    if Rule.GATHER in rules:
        chosen = small("recommend", **sections, recommend={"catalogue": ["a"], "slate": 1})
    else:
        chosen = small(**sections)
    assert rules_of(chosen.label) == rules
    return chosen


class Life:
    """A shard, of which one event id is looked at."""

    def __init__(self, rules: frozenset[Rule]) -> None:
        self.rewards = Rule.GATHER in rules
        self.shard = Shard(pipeline_of(rules), 0)
        self.now_ms, self.number = NOW_MS, 0
        self.other, self.rewarded = 1_000, 0.0
        fold(self.shard, Tick(0, 0, NOW_MS))

    @property
    def found(self) -> Found:
        return self.shard.pending.look("e", self.shard.now_ms) or self.shard.early.look("e")

    @property
    def state(self) -> State:
        return self.found.state

    def happen(self, what: str) -> list[Any]:
        return fold(self.shard, *self.records(what))

    def records(self, what: str) -> Iterator[Record]:
        self.number += 1
        match what:
            case "event":
                yield self.event("e")
            case "label" if self.rewards:
                self.rewarded += 1.0
                yield label("e", reward_text("a", self.rewarded, 9, 9.0), self.now_ms, offset=self.number)
            case "label":
                yield label("e", not self.found.label, self.now_ms, offset=self.number)
            case "same":
                yield label("e", self.found.label, self.now_ms, offset=self.number)
            case "retraction":
                yield label("e", None, self.now_ms, offset=self.number)
            case "end" | "closing":
                self.now_ms += 1 + (WAIT_MS if what == "end" else CORRECT_MS)
                yield Tick(0, self.number, self.now_ms)
            case "forgetting":
                for _ in range(IDS_MAX):
                    self.other += 1
                    yield self.event(self.other)

    def event(self, event_id: int | str) -> Event:
        made = event(event_id, self.now_ms, offset=self.number if event_id == "e" else self.other)
        return structs.replace(made, features=(*made.features, None)) if self.rewards else made


def lived(rules: frozenset[Rule], path: tuple[str, ...]) -> Life:
    here = Life(rules)
    for what in path:
        here.happen(what)
    return here


def paths(rules: frozenset[Rule]) -> dict[State, tuple[str, ...]]:
    """A shortest way to every state that can be reached, as the table has it."""
    found: dict[State, tuple[str, ...]] = {State.UNKNOWN: ()}
    queue = [State.UNKNOWN]
    for state in queue:  # grows meanwhile
        row = TABLE[state]
        ways = {"event": row.event, "closing": row.closing, "forgetting": row.forgetting}
        for what, then in {**ways, **{name: move.then for name, move in moves(rules, state)}}.items():
            if then not in found and (state, what) != (State.HELD, "event"):  # where held labels come at once
                found[then] = (*found[state], what)
                queue.append(then)
    return found


def moves(rules: frozenset[Rule], state: State) -> list[tuple[str, Move]]:
    row = life_of(rules)[state]
    return [(name, move) for name in HAPPENINGS if (move := getattr(row, name)).act is not Act.NEVER]


def test_each_state_has_a_row() -> None:
    assert set(TABLE) == set(State)


def test_a_state_is_read_back_from_what_the_ledger_keeps() -> None:
    for state in State:
        if state is not State.HELD:
            assert (NOTED if state.noted else BARE)[state.fate] is state


@pytest.mark.parametrize(
    "rules", list(allowed()), ids=lambda rules: "+".join(sorted(rule.name for rule in rules)) or "none"
)
def test_each_move_is_what_the_code_does(rules: frozenset[Rule]) -> None:
    for state, path in paths(rules).items():
        assert lived(rules, path).state is state
        for name, move in moves(rules, state):
            here = lived(rules, path)
            made = here.happen(name)
            deed = move.act.deed
            assert (name, here.state) == (name, move.then)
            assert kinds(made) == ([deed.kind] if deed.kind is not None else [])
            if deed.detail is not None:
                assert [one.detail for one in made if isinstance(one, Outcome)] == [deed.detail]
            assert here.shard.counts.get("uncorrectable", 0) == deed.closed
        for name in ("closing", "forgetting"):
            here = lived(rules, path)
            here.happen(name)
            assert (name, here.state) == (name, getattr(TABLE[state], name))
        here = lived(rules, path)
        made = here.happen("event")
        then = TABLE[state].event
        if state is State.HELD:
            (_, joined), *_ = ((name, move) for name, move in moves(rules, then) if name == "label")
            published = [joined.act.deed.kind] if joined.act.deed.kind is not None else []
            assert (here.state, kinds(made)) == (joined.then, ["Score", *published])
        else:
            assert here.state is then
            assert kinds(made) == (["Score"] if state is State.UNKNOWN else ["duplicate_event"])


def test_each_cell_is_reached_under_some_rules() -> None:
    said = {
        (state, name, move.act, move.then)
        for state, row in TABLE.items()
        for name in HAPPENINGS
        for _, move in cases(state, getattr(row, name))
    }
    reached = {
        (state, name, move.act, move.then)
        for rules in allowed()
        for state in paths(rules)
        for name, move in moves(rules, state)
    }
    assert reached == said
    assert {act for _, _, act, _ in said} == set(Act) - {Act.NEVER}


def test_the_docs_have_the_table() -> None:
    assert PAGE.read_text() == written(PAGE.read_text()), "write it anew: python -m tests.support.life"
