"""The champion: a River model as the core uses it.

`score` asks and does not change the model; `learn` changes it. What the model says is checked before anything else
sees it: a number that is not finite, or a probability that is not from 0 to 1, is never served. The last good copy of
the model, taken every `COPY_EVERY` learn calls, then takes over as a new generation; without a usable answer from that
one either, the prediction is withheld.

A model that raises is put back as it was before the call: an earlier copy learns again what was learned since. Which
copy that is makes no difference to the state, so when copies are made is free to choose.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from river import base

from driftline.core.error import ExpressionError, InvariantError
from driftline.core.fault import REST_CALLS, STOPS, Faults, ModelRaisedError, last_line
from driftline.core.model.dispatch import AsIs, Features, Form, Values, Walk
from driftline.core.oracle import Oracle
from driftline.core.output import ModelVersion, Predicted, Prediction
from driftline.core.pickle.allowlist import admitted_for
from driftline.core.pickle.reader import Thaw
from driftline.core.pickle.writer import pickled
from driftline.core.pipeline import Pipeline
from driftline.core.recommend.recommender import Recommender, ShortWay, share_of_yes
from driftline.core.record import LabelValue
from driftline.core.river.ahead import Ahead, Given, Sees, Taught
from driftline.core.river.building import has_probabilities, last_step
from driftline.core.river.timed import is_timed, moment
from driftline.core.task import task_of
from driftline.core.task.build import build_model
from driftline.core.task.predict import Predict

COPY_EVERY = 10_000
SINCE_MIN, SINCE_MAX = 500, 5_000  # learn calls between two copies to go back to: more of them for a larger model
SINCE_BYTES = 10  # of the copy, for one more learn call: copying then costs about 0.3 us a call
_NOTHING = Prediction()
_WITHHELD: Predicted = (_NOTHING, _NOTHING, "withheld")
_AT_REST: Predicted = (None, _NOTHING, "withheld")


class Learner:
    """A model, its version, and its last good copy.

    Args:
        pipeline: says the task and how to build the model.

    Attributes:
        faults: what the model raised.
        began: the number of learn calls at which the model that serves had learned nothing: below 0 where it came
            trained.
        trusted: what it says now may be kept as good; the guard says otherwise where it does not pass.
        predict: what the model makes of these values, in the task's own way; None where it is not finite. Changes
            nothing.
        sees: what a model that forecasts is given of a series; see `core.river.ahead`.
    """

    sees: Sees = "series"
    began = 0  # of states that were written before it was kept: as if no model had been replaced
    _good_known = 0
    trusted = True
    _spare: tuple[bytes, Predict] | None = None  # the last good copy, ready to be asked

    def __init__(self, pipeline: Pipeline) -> None:
        if not isinstance(pipeline, Pipeline):  # a snapshot could name this class with a model of its own
            raise InvariantError("a learner is made of a pipeline only")
        self._set_form(pipeline)
        self.generation = 0
        self.learned = 0
        self.faults = Faults()
        self.began = self._good_known = 0
        self.trusted = True
        self._good: bytes | None = None
        self._probabilistic = task_of(pipeline.task).classes and has_probabilities(build_model(pipeline))
        self.install(build_model(pipeline))

    def _set_form(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        features = pipeline.event.features
        may_omit = any(one.missing == "omit" for one in features.values())
        self._form = AsIs() if pipeline.forecast is not None else Form(tuple(features), may_omit=may_omit)

    def features_of(self, values: Given) -> Features:
        """Features as the model sees them."""
        return self._form.features(values)

    def install(self, model: Any) -> None:
        """Put a model to work: its methods are looked up once."""
        self._use(model)
        self._keep()

    def _use(self, model: Any) -> None:
        self._model = model
        if isinstance(model, Recommender):
            model.configure(self._pipeline, short_way)
        self.sees = model.sees if isinstance(model, Ahead) else "series"
        self._timed = is_timed(model)
        self._walk: Walk | None = Walk(model, self._form, by_itself=self._timed)
        self.predict: Predict = self._predictor(self._walk, model)
        self._supervised = bool(getattr(model, "_supervised", True))
        learn = self._walk.learn() if self._supervised else _without_label(model, self._form)
        self._learn_one: Callable[..., Any] = learn

    def _predictor(self, walk: Walk, model: Any) -> Predict:
        decision = self._pipeline.decision
        threshold = decision.threshold if decision is not None else None
        return task_of(self._pipeline.task).predictor(walk, model, threshold, self._probabilistic)

    @property
    def model(self) -> Any:
        """The model, as it stands now."""
        if self._walk is not None:
            self._walk.settle()
        if isinstance(self._model, Recommender):
            self._model.settle()
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "generation": self.generation,
            "learned": self.learned,
            "good": self._good,
            "faults": self.faults,
            "probabilistic": self._probabilistic,
            "began": self.began,
            "good_known": self._good_known,
            "trusted": self.trusted,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.generation = state["generation"]
        self.learned = state["learned"]
        self._good = state["good"]
        self.faults = state["faults"]
        self._probabilistic = state["probabilistic"]
        self.began, self._good_known = state.get("began", 0), state.get("good_known", 0)
        self.trusted = state.get("trusted", True)
        self._model, self._walk = state["model"], None

    def attach(self, pipeline: Pipeline) -> None:
        """Take up work after unpickling: a pickled learner leaves the pipeline behind."""
        self._set_form(pipeline)
        self.install(self.model)

    @property
    def pipeline(self) -> Pipeline:
        """What it is a model of."""
        return self._pipeline

    @property
    def version(self) -> ModelVersion:
        return ModelVersion(self.generation, self.learned)

    @property
    def known(self) -> int:
        """How many labels (or events, where it learns from those) the model that serves has learned."""
        return self.learned - self.began

    def score(self, values: Given, call: str, oracle: Oracle) -> Predicted:
        """What the model says of these values, and what is served. May put the last good copy to work.

        Args:
            values: of the features, in declared order; of a forecast, what is asked.
            call: names it in the journal, should it raise; unique in a slice.
            oracle: knows at a replay whether it raised.

        Raises:
            ModelRaisedError: the model raised; it is as it was.
        """
        faults = self.faults
        if faults.resting:
            faults.resting -= 1
            return _AT_REST
        faults.calls += 1
        try:
            if oracle.known:
                _pass_over(call, oracle)
            prediction = self.predict(values)
            return self._ask_another(values) if prediction is None else (prediction, prediction, "served")
        except STOPS:
            raise
        except BaseException as error:  # River's parts in Rust panic past Exception
            raise self._put_back(call, error, oracle) from error

    def learn(self, values: Given, label: LabelValue | None, output_id: str, time_ms: int, oracle: Oracle) -> None:
        """Learn one pair (or, for a model without labels, one event).

        Args:
            values: as of `score`; of a forecast, what is taught.
            output_id: names the call, as `learn_call` writes it.
            time_ms: of the event, for models over time.

        Raises:
            ModelRaisedError: the model raised, or rests; it is as it was.
        """
        faults = self.faults
        if faults.resting:
            faults.resting -= 1
            raise ModelRaisedError(f"the model rests for {REST_CALLS} calls: it raised too often")
        faults.calls += 1
        good = None
        try:
            if oracle.known:
                _pass_over(learn_call(output_id), oracle)
            if self._timed:
                self.teach(self._model, values, label, time_ms)
            else:
                self._learn_one(values, label)
            if (self.learned + 1) % COPY_EVERY == 0 and self.trusted and self._sound(values):
                good = self._good = pickled(self.model)
                self._good_known = self.known + 1
        except STOPS:
            raise
        except BaseException as error:  # as in `score`
            raise self._put_back(learn_call(output_id), error, oracle) from error
        self.learned += 1
        self._since.append((values, label, time_ms))
        if good is not None or len(self._since) >= self._since_max:
            self._keep(good)

    def ask_good(self, values: Given, call: str, oracle: Oracle) -> tuple[Prediction | None, int]:
        """What the last good copy says, and how many labels it has learned. It says None where there is none, where it
        raises, and instead of what is not finite.

        Args:
            call: as of `score`.
        """
        good, known, call = self._good, self._good_known, f"good {call}"
        if good is None:
            return None, known
        try:
            if oracle.known:
                _pass_over(call, oracle)
            if self._spare is None or self._spare[0] is not good:
                model = Thaw(good, admitted_for(self._pipeline), "model").read()
                self._spare = good, self._predictor(Walk(model, self._form, by_itself=is_timed(model)), model)
            return self._spare[1](values), known
        except STOPS:
            raise
        except BaseException as error:  # noqa: BLE001 - as in `score`
            oracle.add(call, str(error) if isinstance(error, ModelRaisedError) else last_line(error))
            return None, known

    def _sound(self, values: Given) -> bool:
        """Whether the model has a finite answer to what it just learned."""
        if isinstance(values, Taught):  # which is not what the model is asked
            sound: bool = self._model.sound(values)
            return sound
        return self.predict(values) is not None

    def _ask_another(self, values: Given) -> Predicted:
        """The prediction of the last good copy, where the model's is not finite; withheld if that cannot say either."""
        self.fall_back()
        prediction = self.predict(values)
        if prediction is None or (prediction.label is None and prediction.value is None):
            return _WITHHELD
        return _NOTHING, prediction, "fallback"

    # -- exceptions

    def _put_back(self, call: str, error: BaseException, oracle: Oracle) -> ModelRaisedError:
        """Make the model as it was before the call that raised; returns what to raise for it."""
        if isinstance(error, ModelRaisedError):
            raised = error
        else:
            raised = ModelRaisedError(last_line(error))
            self._go_back()
        oracle.add(call, str(raised))
        self.faults.add()
        return raised

    def _keep(self, base: bytes | None = None) -> None:
        """A copy to go back to, from here on; `base` is one that was made just now."""
        try:
            self._base = pickled(self.model) if base is None else base
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ExpressionError(
                f"the model cannot be pickled ({error}), so no snapshot could keep it; define its classes at the top "
                "of their module, and hold no open files, locks or lambdas"
            ) from error
        self._since: list[tuple[Given, LabelValue | None, int]] = []
        since_max = min(max(len(self._base) // SINCE_BYTES, SINCE_MIN), SINCE_MAX)
        self._since_max = (
            -(-since_max // self._model.horizons) if self.sees != "series" else since_max
        )  # a row for each

    def _go_back(self) -> None:
        self._use(pickle.loads(self._base))
        if not self._since:
            return
        self._learn_again(self._since)
        self._keep()

    def _learn_again(self, pairs: Sequence[tuple[Given, LabelValue | None, int]]) -> None:
        """Learn what was learned before, by a copy of the model."""
        try:
            for values, label, time_ms in pairs:
                if self._timed:
                    self.teach(self._model, values, label, time_ms)
                else:
                    self._learn_one(values, label)
        except STOPS:
            raise
        except BaseException as error:  # as in `score`
            raise InvariantError(
                f"the model raised at a pair that it had learned before ({last_line(error)}), so it is not "
                "deterministic: nothing that it did could be replayed. Mend the model, then start with --reset-state"
            ) from error

    def reset(self) -> None:
        """Start again with an untrained model, as a new generation."""
        self.take_over(build_model(self._pipeline))

    def take_over(self, model: Any, known: int = 0) -> None:
        """Put another model to work, as a new generation.

        Args:
            known: how many labels it has learned.
        """
        self.generation += 1
        self._good = None
        self.began = self.learned - known
        self.install(model)

    def copied(self) -> bytes:
        """The model as it is, for `go_back`."""
        return pickled(self.model)

    def go_back(self, frozen: bytes, known: int, pairs: Sequence[tuple[Given, LabelValue | None, int]]) -> None:
        """Put a copy of the model to work that was made earlier, as a new generation, and let it learn again.

        Args:
            frozen: the copy, which may come from a snapshot.
            known: how many labels it has learned.
            pairs: what it learned next: values, label and time of the event.

        Raises:
            InvariantError: it raised at a pair that it had learned before.
        """
        if self._good_known > known:
            self._good, self._good_known = frozen, known
        self.generation += 1
        self._use(Thaw(frozen, admitted_for(self._pipeline), "model").read())
        self._learn_again(pairs)
        self.began = self.learned - known - len(pairs)
        self._keep()

    def renew(self) -> None:
        """The model was changed by other means than learning: a new generation, whose last good copy stays."""
        self.generation += 1
        self.install(self.model)

    def load(self, model: Any, frozen: bytes, known: int) -> None:
        """Put a model to work that was trained elsewhere, as a new generation: it is its own last good copy.

        Args:
            frozen: the bytes that it was read from, through the allowlist.
            known: how many labels it has learned.
        """
        self.take_over(model, known)
        self._good, self._good_known = frozen, known

    @property
    def good(self) -> bytes | None:
        """The last good copy."""
        return self._good

    def teach(self, model: Any, values: Given, label: LabelValue | None, time_ms: int) -> None:
        """Let a model of the same making, as River made it, learn one pair."""
        features = self.features_of(values)
        at = {"t": moment(time_ms)} if self._timed else {}
        if self._supervised:
            model.learn_one(features, label, **at)
        else:
            model.learn_one(features, **at)

    def fall_back(self) -> None:
        """Put the last good copy to work, or an untrained model where there is none, as a new generation."""
        self.generation += 1
        good = self._good
        self.began = self.learned - (0 if good is None else self._good_known)
        if good is None:
            self.install(build_model(self._pipeline))
        else:  # bytes that may have come from a snapshot or a model file
            self.install(Thaw(good, admitted_for(self._pipeline), "model").read())


def _pass_over(call: str, oracle: Oracle) -> None:
    """At a replay: raise what the model raised then, without asking it."""
    detail = oracle.known.get(call)
    if detail is not None:
        raise ModelRaisedError(detail)


def learn_call(output_id: str) -> str:
    """What a call to learn is called in the journal."""
    return f"learn {output_id}"


def short_way(model: Any) -> ShortWay:
    """How a model that sees one item at a time is asked and taught."""
    walk = Walk(model, AsIs(), by_itself=is_timed(model))
    ask: Callable[[Any], Any] | None = walk.probability()
    if ask is None:
        ask = walk.ask("predict_one")
        if isinstance(last_step(model), base.Classifier):
            ask = share_of_yes(walk.ask("predict_proba_one"))
    return ShortWay(ask, walk.learn(), walk.settle)


def _without_label(model: Any, form: Form) -> Callable[[Values, LabelValue | None], None]:
    """How a model learns an event."""
    return lambda values, _: model.learn_one(form.features(values))
