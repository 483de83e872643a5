"""Reactions to a drift: only an alert (`alert`), or a change of the model.

    reset    an untrained model takes over
    swap     a background model, which learns from the warning on beside the one that serves, takes over at the
             drift; an untrained one where no warning came before
    boost    the model learns faster for a while: its learning rates are multiplied

Rules:

* One change is one reaction: for `cooldown` learn calls after one, further drifts are only reported. Drifts that do
  not alert (improvements, those of the warm-up) are never reacted to; nor is any while an operator holds learning.
* Each reaction is a new generation of the model. It depends on the fold alone, so a replay makes the same ones.
* There is one background model at most. It is dropped when the warning passes without a drift, when it raises
  (the journal names the call, as in `fault`: a replay drops it there without asking), and when an operator
  resets the model. It serves no one before it takes over.
* A faster rate ends by itself, after so many steps of the optimizer: it is part of the model (`rate.Boosted`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from driftline.core.drift.monitor import Act, Drift
from driftline.core.fault import last_line
from driftline.core.oracle import Oracle
from driftline.core.record import LabelValue
from driftline.core.river.ahead import Given
from driftline.core.river.learning_rate import boost
from driftline.core.task.build import build_model

if TYPE_CHECKING:
    from driftline.core.model.learner import Learner
    from driftline.core.pipeline import Pipeline


class Reaction(Struct, frozen=True, gc=False):
    """What was done to the model.

    Args:
        drift: why.
        learned: what the model that serves from now on has learned.
        since: of a background model, how many learn calls ago it began; None without one.
    """

    act: Act
    drift: Drift
    learned: int
    since: int | None = None


class Background:
    """A model that learns beside the one that serves.

    Args:
        monitor: whose warning it was begun at.
        began: the learner's learn calls by then.
    """

    def __init__(self, model: Any, monitor: str, began: int) -> None:
        self.model = model
        self.monitor = monitor
        self.began = began
        self.learned = 0


class Reactor:
    """The reactions of one shard: when, and the background model.

    Args:
        cooldown: learn calls after a reaction within which there is none.
        factor, count: of `boost`.

    Attributes:
        quiet_until: the number of learn calls up to which no reaction follows.
    """

    def __init__(self, cooldown: int, factor: float, count: int) -> None:
        self.cooldown = cooldown
        self.factor = factor
        self.count = count
        self.quiet_until = 0
        self.background: Background | None = None

    @classmethod
    def of(cls, pipeline: Pipeline) -> Reactor:
        watched = pipeline.drift
        return cls(watched.cooldown_labels, watched.boost_factor, watched.boost_labels)

    def under(self, pipeline: Pipeline, names: Mapping[str, str]) -> Reactor:
        """The same under another pipeline of the same model.

        Args:
            names: monitors that go on, by what they were called before; a background model without the monitor that
                it was begun at would learn forever, and is dropped.
        """
        made = Reactor.of(pipeline)
        made.quiet_until = self.quiet_until
        if self.background is not None and self.background.monitor in names:
            made.background = self.background
            made.background.monitor = names[self.background.monitor]
        return made

    def note(self, drift: Drift, learner: Learner, pipeline: Pipeline, call: str, oracle: Oracle) -> Reaction | None:
        """React to what a detector found, if that is called for.

        Args:
            call: names the building of a model in the journal, should it raise; unique in a slice.

        Returns:
            What was done to the model that serves; None where nothing was.
        """
        background = self.background
        if drift.kind == "calm":
            if background is not None and background.monitor == drift.monitor:
                self.background = None
            return None
        if drift.act == "alert" or learner.learned < self.quiet_until:
            return None
        if drift.kind == "warning":
            if drift.act == "swap" and background is None:
                model = _built(pipeline, call, oracle)
                self.background = None if model is None else Background(model, drift.monitor, learner.learned)
            return None
        return self._react(drift, learner, pipeline, call, oracle)

    def _react(self, drift: Drift, learner: Learner, pipeline: Pipeline, call: str, oracle: Oracle) -> Reaction | None:
        background, self.background = self.background, None
        learned, since = 0, None
        if drift.act == "boost":
            if not boost(learner.model, self.factor, self.count):
                return None
            learner.renew()
            learned = learner.learned
        elif drift.act == "swap" and background is not None:
            learner.take_over(background.model, background.learned)
            learned, since = background.learned, learner.learned - background.began
        else:
            model = _built(pipeline, call, oracle)
            if model is None:
                return None
            learner.take_over(model)
        self.quiet_until = learner.learned + self.cooldown
        return Reaction(drift.act, drift, learned, since)

    def learn(
        self,
        learner: Learner,
        values: Given,
        label: LabelValue | None,
        call: str,
        time_ms: int,
        oracle: Oracle,
    ) -> str | None:
        """Let the background model learn what the one that serves has just learned.

        Returns:
            What it raised, in a line; it is dropped then.
        """
        background = self.background
        if background is None:
            return None

        def taken_in() -> bool:
            learner.teach(background.model, values, label, time_ms)
            return True

        if _tried(taken_in, f"background {call}", oracle):
            background.learned += 1
            return None
        self.background = None
        return "dropped"

    def forget(self) -> None:
        """An operator changed the model: what was begun before does not matter any more."""
        self.background = None


def _built(pipeline: Pipeline, call: str, oracle: Oracle) -> Any:
    """An untrained model; None where it could not be built: a factory is the user's own code."""
    return _tried(lambda: build_model(pipeline), f"model {call}", oracle)


def _tried(make: Callable[[], Any], call: str, oracle: Oracle) -> Any:
    """What `make` gives; None where it raises, and at a replay where it did so then. The journal names the call."""
    detail = oracle.known.get(call)
    if detail is None:
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - of a model: whatever it raises costs only itself
            detail = last_line(error)
    oracle.add(call, detail)
    return None
