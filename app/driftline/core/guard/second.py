"""A second model, which learns beside the one that serves: what the guard serves where the first one's prediction does
not pass.

It is asked of every event and learns every pair that the first one learns, so it is never older than that, and its own
error is known beside the first one's. It is a learner like the first: what it raises costs only what it would have
said, and what is not finite is never served. Reactions to drift and `control load` change the first model alone, so
the second goes on through them; `control reset` resets both.

In a state it is a pickle of its own: a file that declares another second model reads the state without it.
"""

from __future__ import annotations

from typing import Final

from driftline.core.error import SnapshotError
from driftline.core.fault import ModelRaisedError
from driftline.core.guard.beside import ahead_of
from driftline.core.guard.quarantine import Copies, Pair
from driftline.core.model.learner import Learner
from driftline.core.notation import is_factory
from driftline.core.oracle import Oracle
from driftline.core.output import MODEL, SECOND, Judged, Prediction, Unserved
from driftline.core.pickle.allowlist import admitted_for
from driftline.core.pickle.reader import Thaw
from driftline.core.pickle.writer import pickled
from driftline.core.pipeline import Pipeline
from driftline.core.record import LabelValue
from driftline.core.river.ahead import Given
from driftline.core.river.expression import params_used
from driftline.core.task import task_of

_ERROR_MAX: Final = 1e308  # a sum must stay a number, whatever a model says


class Second:
    """See the module.

    Args:
        pipeline: as `Pipeline.second` gives it.

    Attributes:
        copies: to go back to, where labels may be held back from learning.
        labels: at which both models had an answer, of forecasts at each horizon; `first_error` and `own_error` are the
            sums of their errors there.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.learner = Learner(pipeline)
        self.copies = Copies()
        self.labels = 0
        self.first_error = self.own_error = 0.0

    @classmethod
    def of(cls, pipeline: Pipeline) -> Second | None:
        """The second model of a pipeline, untrained; None where it declares none."""
        second = pipeline.second
        return None if second is None else cls(second)

    def ask(self, values: Given, call: str, oracle: Oracle) -> Unserved | None:
        """What it says of an event; None where it raises, and instead of what is not finite.

        Args:
            call: names the event in the journal, should it raise.
        """
        learner = self.learner
        try:
            _, prediction, finite = learner.score(values, f"second {call}", oracle)
        except ModelRaisedError:
            return None
        return None if finite == "withheld" else Unserved(SECOND, prediction, learner.version)

    def learn(self, values: Given, label: LabelValue | None, output_id: str, time_ms: int, oracle: Oracle) -> bool:
        """Learn a pair; returns whether that went well.

        Args: as of `Learner.learn`.
        """
        try:
            self.learner.learn(values, label, f"second {output_id}", time_ms, oracle)
        except ModelRaisedError:
            return False
        return True

    def compare(self, label: LabelValue, served: Prediction, unserved: tuple[Unserved, ...]) -> None:
        """Count how far off both models were.

        Args:
            served: which is what the first one said, unless `unserved` holds that.
        """
        first, own = served, None
        for one in unserved:
            if one.name == SECOND:
                own = one.prediction
            elif one.name == MODEL:
                first = one.prediction
        error = task_of(self.learner.pipeline.task).error
        if error is not None and own is not None:
            self._count(error(label, first), error(label, own))

    def compare_ahead(self, value: float, judged: Judged) -> None:
        """The same of an observation, at each horizon at which it was forecast."""
        for first, own, _ in ahead_of(judged):
            self._count(abs(value - first), abs(value - own))

    def _count(self, first: float | None, own: float | None) -> None:
        if first is not None and own is not None:
            self.labels += 1
            self.first_error = min(self.first_error + first, _ERROR_MAX)
            self.own_error = min(self.own_error + own, _ERROR_MAX)

    def undo(self, undone: list[Pair]) -> None:
        """Forget what the first model does not know any more: it is held, and would be learned twice.

        Where there is no copy from before, it begins anew.
        """
        first, copies = undone[0].number, self.copies
        if copies.generation == self.learner.generation and copies.recent and copies.recent[0].number <= first:
            copies.go_back(self.learner, first)
        else:
            self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.learner.reset()
        self.copies.forget()

    # -- state

    def dumped(self) -> tuple[str, bytes]:
        """What is kept of it."""
        return model_text(self.learner.pipeline), pickled(self)

    def loaded(self, kept: object) -> Second:
        """From what was kept; itself, untrained, where that is of no model or of another one.

        Raises:
            SnapshotError: it is not what `dumped` gave.
        """
        if kept is None:
            return self
        if not isinstance(kept, tuple) or len(kept) != 2:
            raise SnapshotError(f"the snapshot's second model is a {type(kept).__name__}")
        pipeline, (text, frozen) = self.learner.pipeline, kept
        if text != model_text(pipeline):
            return self
        made = Thaw(frozen, admitted_for(pipeline), "snapshot").read()
        if type(made) is not Second or type(made.learner) is not Learner or type(made.copies) is not Copies:
            raise SnapshotError(f"the snapshot's second model is a {type(made).__name__}")
        return made

    @property
    def frozen(self) -> dict[str, bytes]:
        """The copies of its model that it holds, by what they are."""
        found = {"last good": self.learner.good, "older": self.copies.older, "newer": self.copies.newer}
        return {name: copy for name, copy in found.items() if copy is not None}


def model_text(pipeline: Pipeline) -> str:
    """What a model is made of: its expression, and the parameters that it reads."""
    names = list(pipeline.params) if is_factory(pipeline.model) else params_used(pipeline.model)
    return repr((pipeline.model, [(name, pipeline.params.get(name)) for name in names]))
