"""What was done about what is wrong, and what a person should do next: two lines under the page's first sentence.

What to do is the first step of the runbook's section, which it links to. What was done is read from the journal: models
that took over since, predictions that the guard stopped, and who acknowledged what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from driftline.web.board import Board, Episode
from driftline.web.record import cut

STEPS_SHOWN = 3
DONE_SHOWN = 4
BEFORE_MS = 60_000  # a reaction is written with its drift, and read beside it


class Step(Struct, frozen=True):
    """Something to do.

    Args:
        section: of the runbook; empty where it has none.
        own: by role, what is for it to do instead.
    """

    text: str
    section: str = ""
    own: Mapping[str, str] = {}


Steps: TypeAlias = Mapping[str, str]

_BY_KIND: Final[Steps] = {
    "concept_drift": "Ask a domain expert what changed then, and check that the labels are right.",
    "data_drift": "Ask the owner of the field what changed: a unit, a default, a new client?",
    "score_drift": "See whether features moved as well; no label shows yet whether the model is right.",
    "performance": "Look for an open drift or data quality problem, which explain most of these.",
    "label_coverage": "Check that whatever produces the labels is running and writes them with the events' keys.",
    "label_delay": "Ask the source of the labels why they are late.",
    "label_match": "Check that the system that produces the labels is running, and writes the events' ids and keys.",
    "data_quality": "Look at the rejected records, and ask who writes to the topic what was deployed.",
    "model_failure": "Look at the inputs that the model raised at; fix the model in the pipeline file.",
    "model_change": "Watch the metric of the latest labels: it should improve from here on.",
    "throughput": "Check the producer of the events.",
    "guard": "Look for a fault in the data first (a unit, a default, a new client?), then for a model gone wrong.",
    "kpi": "See which segment it comes from, and look for a drift that explains it.",
    "quarantine": "Look at some of the labels: are they wrong, or has the world changed?",
}


_OWN: Final[Mapping[str, Mapping[str, str]]] = {
    "concept_drift": {
        "domain_expert": "Say what changed around then (a product, a price, a rule, other customers?), and check that "
        "the labels are right."
    },
}


def steps_of(findings: Iterable[Step | None], episodes: Sequence[Episode]) -> list[Step]:
    """What to do, the most urgent first.

    Args:
        findings: what the findings other than alerts ask for.
        episodes: open ones, the worst first.
    """
    asked = (
        Step(_BY_KIND[kind], kind.replace("_", "-"), _OWN.get(kind, {}))
        for one in episodes
        if (kind := one.alert.kind) in _BY_KIND and not one.alert.acknowledged
    )
    every = [*(step for step in findings if step is not None), *asked]
    return list({step.text: step for step in every}.values())[:STEPS_SHOWN]


def done_of(board: Board, episodes: Sequence[Episode]) -> list[str]:
    """What was done since the first of these episodes opened; nothing where none is open."""
    if not episodes:
        return []
    since_ms = min(one.opened_wall_ms for one in episodes) - BEFORE_MS
    found = [*_guard(board, since_ms), *_models(board, since_ms), *_learning(board)]
    by = list(dict.fromkeys(cut(one.alert.acknowledged_by, 100) for one in episodes if one.alert.acknowledged_by))
    if by:
        found.append(f"{' and '.join(by)} acknowledged {'it' if len(episodes) == 1 else 'alerts'}.")
    return found[:DONE_SHOWN]


def _models(board: Board, since_ms: int) -> Iterator[str]:
    made = [one for one in board.versions if one.exact and one.wall_ms >= since_ms]
    by_text: dict[str, list[str]] = {}
    for one in made:
        by_text.setdefault(cut(one.text, 200), []).append(str(one.shard))
    for text, shards in by_text.items():
        several = len(set(shards)) > 1
        yield f"New model on shard{'s' * several} {', '.join(dict.fromkeys(shards))}: {text}."
    if not made and any(shard.note is not None and shard.note.known for shard in board.shards.values()):
        yield "The model was not changed."


def _guard(board: Board, since_ms: int) -> Iterator[str]:
    for shard in board.shards:
        if text := board.trips_since(shard, since_ms):
            yield f"{f'Shard {shard}: ' * (len(board.shards) > 1)}{text}."


def _learning(board: Board) -> Iterator[str]:
    frozen = [str(shard.number) for shard in board.shards.values() if shard.note is not None and shard.note.frozen]
    if frozen:
        yield f"Learning is frozen on shard{'s' * (len(frozen) > 1)} {', '.join(frozen)}."
