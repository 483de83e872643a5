"""Series for tests of forecasts: a pipeline, observations, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from driftline.codec.encode import Encoder
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.output import Outcome, Output, Rejected, Score
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Source
from driftline.core.shard.state import Shard

DAY_MS = 86_400_000


def pipeline(
    model: str = "StandardScaler() | LinearRegression()", guard: dict[str, Any] | None = None, **forecast: Any
) -> Pipeline:
    """A pipeline of daily demand by item; `forecast` replaces keys of its section."""
    return parse_pipeline(
        {
            "pipeline": "demand",
            "task": "forecast",
            "event": {
                "id": "id",
                "time": "time",
                "features": {"demand": "number", "promo": "number", "weekday": {"calendar": "weekday"}},
                "context": {"item": "key"},
            },
            "forecast": {
                "by": "item", "target": "demand", "step": "1d", "horizons": 4, "season": 7, "window": 50, **forecast,
            },
            "model": model,
            **({} if guard is None else {"guard": guard}),
        }
    )  # fmt: skip


class Feed:
    """Observations into a shard, each with an offset of its own."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.shard = Shard(pipeline, 0)
        self.encoder = Encoder(pipeline, 0)
        self.offset = 0
        self.published: list[bytes] = []

    def event(self, item: str, day: float, demand: float, promo: float = 0.0, **changes: Any) -> Event:
        time_ms = int(day * DAY_MS)
        source = Source("demand.events", 0, self.offset, time_ms, item.encode(), b"{}")
        fields = {"event_id": f"e{self.offset}", "context": (item,), **changes}
        return Event(source, time_ms, time_ms, features=(demand, promo, None), **fields)

    def give(self, item: str, day: float, demand: float, promo: float = 0.0, **changes: Any) -> list[Output]:
        event = self.event(item, day, demand, promo, **changes)
        made = list(step(self.shard, event, Oracle()).outputs)
        self.offset += 1
        self.published += [self.encoder.encode(one).value or b"" for one in made]
        return made


def score_of(made: Iterable[Output]) -> Score:
    return next(one for one in made if isinstance(one, Score))


def outcome_of(made: Iterable[Output]) -> Outcome:
    return next(one for one in made if isinstance(one, Outcome))


def rejected_of(made: Iterable[Output]) -> Rejected:
    return next(one for one in made if isinstance(one, Rejected))
