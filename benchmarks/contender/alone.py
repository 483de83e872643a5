"""River alone: the same records, decoded already and in order of time, without Kafka."""

from __future__ import annotations

from typing import Any

from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin
from benchmarks.model import MODELS


def run(asked: dict[str, Any]) -> None:
    model = MODELS[asked["model"]]
    watch, work = Stopwatch(), model.work()
    made = list(model.records(asked["pairs"]))
    scores = {}
    watch.begin()
    for one in made:
        if one.is_label:
            work.label(one.document, one.time_ms)
        else:
            scores[one.number] = work.event(one.document, one.time_ms)
    watch.end()
    quality = model.quality(scores, made)
    watch.report(work.scored, work.learned, quality=quality, fitted=work.quality())


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    run(asked)
