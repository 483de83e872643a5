"""The end of an episode speaks of the state: what is wrong is not over because it is quiet."""

from __future__ import annotations

import random
from typing import Any

from driftline.codec.encode import Encoder
from driftline.core.digest import digest_of
from driftline.core.metric.culprit import Culprit, Errors
from driftline.core.output import Alert
from driftline.core.record import Control
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, load
from tests.support.folding import step
from tests.support.schema import check
from tests.support.small import NOW_MS, event, label, small, source

STEP_MS = 1_000
RULES = {"quiet": "10m", "unmatched_max": 1, "ongoing": "1d"}


class Stream:
    """Events with labels, whose amount and whose truth a test moves."""

    def __init__(self, **sections: Any) -> None:
        watched: dict[str, Any] = {
            "error": "ADWIN()",
            "features": {"x": "ADWIN()"},
            "reference_size": 500,
            "warmup_labels": 200,
        }
        given = {"model": "NoChangeClassifier()", "event": {"features": {"x": "number"}}, "drift": watched, **sections}
        given.setdefault("metrics", ["Accuracy"])
        self.here = Shard(small(alerts=RULES, metric_window=500, **given), 0)
        self.chance = random.Random(5)
        self.number = 0

    def play(self, count: int, *, times: float = 1.0, wrong: float = 0.05) -> list[Alert]:
        """So many events.

        Args:
            times: what amounts are multiplied by.
            wrong: share of the labels that are not what the model says.
        """
        made: list[Alert] = []
        for _ in range(count):
            self.number += 1
            now_ms = NOW_MS + self.number * STEP_MS
            amount = self.chance.lognormvariate(3.6, 0.5) * times
            truth = self.chance.random() >= wrong
            one = event(self.number, now_ms, amount, offset=self.number, word=False)
            two = label(self.number, truth, now_ms, offset=self.number)
            made += [one for record in (one, two) for one in step(self.here, record) if isinstance(one, Alert)]
        return self.seen(made)

    def acknowledge(self, episode: str) -> list[Alert]:
        now_ms = NOW_MS + self.number * STEP_MS
        made = step(self.here, Control(source("p.control", 0), now_ms, "acknowledge", episode, by="Ada"))
        return self.seen([one for one in made if isinstance(one, Alert)])

    def seen(self, made: list[Alert]) -> list[Alert]:
        for alert in made:
            check(Encoder(self.here.pipeline, 0).encode(alert))
        return made


def of(kind: str, alerts: list[Alert]) -> list[Alert]:
    return [alert for alert in alerts if alert.kind == kind]


def test_an_error_that_stays_is_not_over_and_one_that_falls_is() -> None:
    stream = Stream()
    stream.play(2_000)
    bad = of("concept_drift", stream.play(5_000, wrong=0.4))
    assert [one.state for one in bad] == ["opened", "ongoing"], "and no word more for a day"
    assert "p has not recovered: wrong 4" in bad[1].sentence
    assert "acknowledge it" in bad[1].sentence
    again = load(stream.here.pipeline, 0, dump(stream.here))
    assert digest_of(again.episodes) == digest_of(stream.here.episodes)
    stream.here = again
    (over,) = of("concept_drift", stream.play(4_000))
    assert over.state == "resolved"
    assert over.sentence.startswith("p has recovered: wrong ")
    assert "before" in over.sentence
    assert float(over.evidence["now"]) < 0.2  # type: ignore[arg-type]  # a number


def test_a_new_level_of_the_data_ends_when_the_model_has_learned_it() -> None:
    stream = Stream()
    stream.play(2_000)
    made = of("data_drift", stream.play(3_000, times=100))
    assert [one.state for one in made] == ["opened", "resolved"]
    assert "It has stayed at its new level: x is 4," in made[1].sentence
    assert "The model has learned it: Accuracy is 0." in made[1].sentence


def test_a_new_level_that_hurts_stays_open_until_it_is_acknowledged() -> None:
    stream = Stream()
    stream.play(2_000)
    made = of("data_drift", stream.play(3_000, times=100, wrong=0.4))
    assert [one.state for one in made] == ["opened", "ongoing"]
    said = stream.acknowledge(made[0].episode)
    assert [one.state for one in said] == ["ongoing"]
    (over,) = of("data_drift", stream.play(10, times=100, wrong=0.4))
    assert over.state == "resolved"
    assert over.sentence.endswith("This was acknowledged by Ada as the new normal.")


def test_data_that_come_back_are_back() -> None:
    stream = Stream()
    stream.play(2_000)
    assert [one.state for one in of("data_drift", stream.play(400, times=100))] == ["opened"]
    made = of("data_drift", stream.play(3_000))
    assert made[-1].state == "resolved"
    assert made[-1].sentence.startswith("Back where it was: x is ")


def test_the_segment_whose_errors_rose_most() -> None:
    errors = Errors()
    for number in range(1_000):
        errors.add("FR" if number % 2 else "DE", 1.0 if number >= 600 and number % 2 else 0.0)
    assert errors.culprit(400) == Culprit("FR", 0.0, 1.0, 200)
    alike = Errors()
    for number in range(1_000):
        alike.add("FR" if number % 2 else "DE", 1.0 if number >= 600 else 0.0)
    assert alike.culprit(400) is None
