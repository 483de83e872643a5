"""Labels by task: what each means to the model, and what is refused with what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.core.pipeline.target import Target, TargetError, shown
from tests.support.small import small


def target(task: str = "binary", **sections: Any) -> Target:
    pipeline = small(task, **sections)
    assert pipeline.label is not None
    return Target(pipeline.label, pipeline)


@pytest.mark.parametrize(("value", "meant"), [(True, True), (False, False), (1, True), (0, False), (1.0, True)])
@pytest.mark.parametrize("task", ["binary", "anomaly"])
def test_a_bit_is_true_false_1_or_0(task: str, value: object, meant: bool) -> None:
    read = target(task).read(value)
    assert read is meant


@pytest.mark.parametrize("value", [2, -1, 0.5, "1", "true", [], {}, [1]])
def test_no_other_bit(value: object) -> None:
    with pytest.raises(TargetError, match=r"label\.positive"):
        target().read(value)


@pytest.mark.parametrize(("value", "meant"), [("bad", True), ("good", False), ("", False), ("BAD", False)])
def test_a_named_positive_makes_all_other_texts_negative(value: str, meant: bool) -> None:
    assert target(label={"positive": "bad"}).read(value) is meant


@pytest.mark.parametrize("value", [1, True, 0.0, ["bad"], {"bad": 1}])
def test_a_named_positive_wants_its_own_type(value: object) -> None:
    with pytest.raises(TargetError, match="must be a string like 'bad'"):
        target(label={"positive": "bad"}).read(value)


def test_a_named_negative_leaves_nothing_else() -> None:
    read = target(label={"positive": "bad", "negative": "good"}).read
    assert (read("bad"), read("good")) == (True, False)
    with pytest.raises(TargetError, match="must be 'bad' or 'good', not 'other'"):
        read("other")


def test_a_number_can_be_the_positive() -> None:
    read = target(label={"positive": 2}).read
    assert [read(2), read(2.0), read(1), read(0), read(True)] == [True, True, False, False, False]
    with pytest.raises(TargetError, match="must be a number or boolean"):
        read("2")


@pytest.mark.parametrize("value", ["rain", "", 3, -3, 0, True, False, 2**63, 2**64 - 1])
def test_a_class_is_taken_as_it_is(value: Any) -> None:
    read = target("multiclass").read(value)
    assert read == value
    assert type(read) is type(value)


def test_a_whole_float_is_a_whole_number() -> None:
    read = target("multiclass").read(3.0)
    assert (read, type(read)) == (3, int)


@pytest.mark.parametrize("value", [0.5, 2.0**60, 1e20, 1e300, [], ["a"], {}])
def test_no_class(value: object) -> None:
    """A float beyond 2^53 stands for a whole number that JSON could not write back."""
    with pytest.raises(TargetError, match="a class must be a string, a whole number or a boolean"):
        target("multiclass").read(value)


def test_a_class_has_a_longest_name() -> None:
    read = target("multiclass", limits={"string_max": 5}).read
    assert read("abcde") == "abcde"
    with pytest.raises(TargetError, match="at most 5"):
        read("abcdef")


@pytest.mark.parametrize("value", [0, -2.5, 3, 1e15, -1e15])
def test_a_number_within_the_limit(value: float) -> None:
    assert target("regression").read(value) == value


@pytest.mark.parametrize("value", [1.1e15, -1e16, float("inf"), float("nan"), "1", True, None, [1.0]])
def test_no_number(value: object) -> None:
    with pytest.raises(TargetError, match="a label must be a number"):
        target("regression").read(value)


def test_the_assumed_label_is_read_as_any_other() -> None:
    assert target(label={"missing": {"assume": 0}}).assumed is False
    assert target(label={"positive": "bad", "missing": {"assume": "bad"}}).assumed is True
    assert target("regression", label={"missing": {"assume": 0}}).assumed == 0
    assert target().assumed is None


def test_a_wrong_value_is_shown_short_and_never_walked_into() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "an array"
    assert shown({"a": 1}) == "an object"
    assert shown("x" * 1_000) == repr("x" * 79 + "...")[:80].replace("...", "x")
    assert len(shown("x" * 1_000)) == 80
    assert [shown(value) for value in (None, True, 1.5, "é")] == ["None", "True", "1.5", "'é'"]
