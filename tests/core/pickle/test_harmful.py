"""Model files that were made to harm are refused, and the shard goes on, even if the deployment's key signed them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
from river.linear_model import LogisticRegression
from river.naive_bayes import GaussianNB

from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.parts import encode_model
from driftline.core.oracle import Oracle
from driftline.core.output import Rejected, Score
from driftline.core.shard.state import Shard
from driftline.core.state import model_file
from driftline.core.state.freeze import dump, dump_model
from driftline.core.state.model_file import UnfitError
from tests.core.fold.test_load import KEY, commands, folded, manifest_of, reasons, taught
from tests.support.folding import step
from tests.support.small import NOW_MS, chosen, event, small


def _model_with(change: Callable[[Any], object]) -> bytes:
    """The bytes of a trained model of the pipeline, changed."""
    model = pickle.loads(dump_model(taught().learner.model))
    change(model)
    return pickle.dumps(model, protocol=5)


def _last(model: Any) -> Any:
    return list(model.steps.values())[-1]


HARMFUL: dict[str, tuple[bytes, str]] = {
    "a step without attributes": (
        _model_with(
            lambda model: model.steps.update(LogisticRegression=LogisticRegression.__new__(LogisticRegression))
        ),
        "has no ",
    ),
    "no steps": (_model_with(lambda model: vars(model).pop("steps")), "put to work|does not work|not make"),
    "steps that are text": (
        _model_with(lambda model: vars(model).update(steps="abc")),
        "put to work|does not work|not make",
    ),
    "another step": (_model_with(lambda model: model.steps.update(LogisticRegression=GaussianNB())), "does not make"),
    "one step more": (_model_with(lambda model: model.steps.update(more=GaussianNB())), "does not make"),
    "no pipeline": (pickle.dumps([1], protocol=5), "does not make"),
    "a class": (pickle.dumps(LogisticRegression, protocol=5), "does not make"),
    "a text for a number": (_model_with(lambda model: vars(_last(model)).update(intercept_lr="x")), ""),
}


@pytest.mark.parametrize("ring", [NO_KEYS, KEY], ids=["plain", "signed"])
@pytest.mark.parametrize("harm", HARMFUL)
def test_a_harmful_file_is_refused_and_the_shard_goes_on(harm: str, ring: KeyRing) -> None:
    """Even where the deployment's own key signed it."""
    frozen, told = HARMFUL[harm]
    shard = Shard(small(), 0)
    outputs = folded(shard, *commands(encode_model(manifest_of(small()), frozen, ring)))
    if told:
        assert reasons(outputs) == ["load_refused"]
        assert re.search(told, chosen(outputs, Rejected)[0].detail)
        assert shard.learner.generation == 0
    assert len(chosen(step(shard, event("on", NOW_MS + 10**6, 0.7, offset=10**6)), Score)) == 1


HALF = "\ud800".encode("utf-8", "surrogatepass")


def test_half_a_character_reaches_no_journal() -> None:
    """It can be read, and not be written as JSON: a refusal that named it ended the worker, at each start."""
    frozen = b"\x80\x05\x8c" + bytes([len(HALF)]) + HALF + b"\x8c\x01x\x93."
    shard = Shard(small(), 0)
    oracle = Oracle()
    outputs = folded(shard, *commands(encode_model(manifest_of(small()), frozen, NO_KEYS)), oracle=oracle)
    assert reasons(outputs) == ["load_refused"]
    assert oracle.found
    assert all(detail.encode() for detail in oracle.found.values())


@pytest.mark.parametrize("answer", [{b"x": 1.0}, {date(2020, 1, 1): 1.0}, {(): 1.0}, {"x": Fraction(1)}])
def test_an_answer_that_cannot_be_written_costs_its_event_alone(answer: dict[Any, Any]) -> None:
    """A model may hold classes that no label can be."""
    pipeline = small(model="dummy.PriorClassifier()", task="multiclass", metrics=["Accuracy"], drift={"error": None})
    shard = Shard(pipeline, 0)
    shard.learner.model.counts.update(answer)
    shard.learner.model.n = 1
    (rejected,) = chosen(step(shard, event("e", NOW_MS, 0.7)), Rejected)
    assert (rejected.reason, rejected.detail.partition(":")[0]) == ("model_error", "TypeError")


def test_a_setting_that_the_pipeline_s_model_does_not_have_is_refused() -> None:
    """Patterns and sizes are the operator's, not the file's."""
    model = "BagOfWords('word') | MultinomialNB()"
    pipeline = small(model=model, metrics=["Accuracy"])
    made = Shard(pipeline, 0).learner.model
    assert model_file.model_of(pipeline, dump_model(made)) is not None
    kept = made["BagOfWords"].processing_steps
    made["BagOfWords"].processing_steps = [
        partial(one.func, pattern="(a+)+$") if isinstance(one, partial) else one for one in kept
    ]
    with pytest.raises(UnfitError, match=r"pattern = '\(a\+\)\+\$'"):
        model_file.model_of(pipeline, dump_model(made))
    made["BagOfWords"].processing_steps = kept
    made["BagOfWords"].on = "elsewhere"
    with pytest.raises(UnfitError, match=r"BagOfWords\.on = 'elsewhere'"):
        model_file.model_of(pipeline, dump_model(made))


def _nested(depth: int) -> bytes:
    """A model with one attribute too many: lists within lists."""
    plain = dump_model(taught().learner.model)
    return plain[:-1] + b"}\x8c\x02zz" + b"]" * depth + b"N" + b"a" * depth + b"sb."


def test_what_is_nested_too_deep_to_be_written_later_is_refused() -> None:
    """What is read can be deeper than what is written. A shard that took it would end at its next snapshot."""
    taken = 0
    for depth in range(50, 1_100, 50):
        try:
            model = model_file.model_of(small(), frozen := _nested(depth))
        except UnfitError:
            continue
        taken = depth
        shard = Shard(small(), 0)
        _deeper(100, partial(shard.learner.load, model, frozen, 0))
        _deeper(100, partial(dump, shard))
    assert 100 <= taken < 1_000


def _deeper(frames: int, call: Callable[[], object]) -> object:
    return _deeper(frames - 1, call) if frames else call()
