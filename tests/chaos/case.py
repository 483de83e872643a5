"""What a campaign's pipeline is, by task: its sections, and the events and labels that go with them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

FEATURES: Final = ("amount", "age", "distance", "speed")
ITEMS: Final = "abcde"
SERIES: Final = 50
STEP_MS: Final = 1_000
_SCALED: Final = "(Select('amount', 'age', 'distance', 'speed') | StandardScaler())"
_BOTH: Final = f"{_SCALED} + (Select('kind') | OneHotEncoder()) | "
_DRIFT: Final = {"error": "ADWIN()", "warmup_labels": 500}
_GUARD: Final = {"range": {"min": -3, "max": 3}, "fallback": ["last_value", {"value": 0}]}


@dataclass(frozen=True)
class Case:
    """One task.

    Args:
        sections: of the pipeline file, beside those that all have.
        labelled: labels come in a topic of their own, and each is learned once. Rewards are learned with their
            request, and observations are their own truth.
    """

    task: str
    sections: Mapping[str, Any]
    labelled: bool = True

    def document(self, name: str) -> dict[str, Any]:
        """A pipeline with small slices and many snapshots: faults are to meet each of them in every state."""
        made = {
            "pipeline": name,
            "task": self.task,
            "event": {"id": "id", "features": {**dict.fromkeys(FEATURES, "number"), "kind": "string"}},
            "label": {"id": "id", "value": "y", "wait": "1d"},
            "limits": {"slice_records_max": 100},
            "snapshot": {"every_records": 1_000},
            **self.sections,
        }
        return {key: section for key, section in made.items() if section is not None}

    @property
    def observes(self) -> bool:
        """Events are observations of series, and their own truth."""
        return "forecast" in self.sections

    def key(self, number: int) -> bytes:
        """Of an event's record: a series stays in one partition."""
        return b"%d" % (number % SERIES if self.observes else number)

    def event(self, number: int, values: list[float], random: Random) -> dict[str, Any]:
        made = {"id": number, **dict(zip(FEATURES, values, strict=True)), "kind": random.choice("abc")}
        if self.observes:
            made |= {"series": f"s{number % SERIES}", "at": _BEGUN_MS + number // SERIES * STEP_MS}
        return made

    def label(self, number: int, values: list[float], turn: int, random: Random) -> dict[str, Any]:
        """Args:
        turn: 1, and -1 once the concept has changed.
        """
        score = turn * (values[0] + values[1] - 1) - random.gauss(0, 0.7)
        match self.task:
            case "regression":
                return {"id": number, "y": round(score, 3)}
            case "multiclass":
                return {"id": number, "y": "low" if score < -1 else "high" if score > 1 else "middle"}
            case "recommend":
                return {"id": number, "y": int(score > 0), "item": random.choice(ITEMS)}
        return {"id": number, "y": int(score > 0)}


_BEGUN_MS = round(time.time() * 1_000)

CASES: Final = {
    case.task: case
    for case in (
        Case(
            "binary",
            {"model": f"{_BOTH}LogisticRegression()", "metrics": ["Accuracy", "LogLoss", "ROCAUC"], "drift": _DRIFT},
        ),
        Case("multiclass", {"model": f"{_BOTH}GaussianNB()", "metrics": ["Accuracy", "MacroF1"], "drift": _DRIFT}),
        Case(
            "regression",
            {"model": f"{_BOTH}LinearRegression()", "metrics": ["MAE"], "drift": _DRIFT, "guard": _GUARD},
        ),
        Case(
            "anomaly",
            {
                "event": {"id": "id", "features": dict.fromkeys(FEATURES, "number")},
                "model": "MinMaxScaler() | HalfSpaceTrees(n_trees=5, height=4, window_size=100)",
                "metrics": ["ROCAUC"],
            },
        ),
        Case(
            "recommend",
            {
                "label": {"id": "id", "value": "y", "item": "item", "wait": "10s"},
                "recommend": {"catalogue": list(ITEMS), "slate": 2, "policy": "thompson"},
                "model": "LinearItems()",
                "metrics": ["Reward"],
            },
            labelled=False,
        ),
        Case(
            "forecast",
            {
                "event": {
                    "id": "id", "time": "at", "features": {"amount": "number"}, "context": {"series": "string"},
                },
                "label": None,
                "forecast": {"by": "series", "target": "amount", "step": "1s", "horizons": 3, "season": 4},
                "model": "StandardScaler() | LinearRegression()",
                "metrics": ["MAE"],
                "guard": {"range": {"min": -3, "max": 3}, "fallback": "seasonal"},
            },
            labelled=False,
        ),
    )
}  # fmt: skip
