"""Items, slates and rewards as text: equal content is equal text, and what is none says why."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.core.output import ModelVersion, Prediction, Unserved
from driftline.core.slate import (
    Estimated,
    Feedback,
    Item,
    SlateError,
    feedback_text,
    gathered,
    items_text,
    read_feedback,
    read_items,
    read_reward,
    read_shown,
    reward_text,
    shown_text,
)


def test_candidates_as_ids_or_with_features() -> None:
    text = items_text(["a", 7, {"item": "b", "price": 1.5, "new": True, "gone": None}, "a"], 10, 1e6, 9)
    assert text == '["a","7",{"item":"b","price":1.5,"new":true}]'
    assert read_items(text) == [Item("a"), Item("7"), Item("b", {"price": 1.5, "new": True})]
    assert items_text(text, 10, 1e6, 9) == text
    assert items_text([], 10, 1e6, 9) == "[]"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("a,b", "no JSON array"),
        ({"a": 1}, "list of item ids"),
        ([1.5], "string or a whole number"),
        ([True], "string or a whole number"),
        ([""], "1 to 5 characters"),
        (["toolong"], "1 to 5 characters"),
        ([{"price": 1}], "string or a whole number"),
        ([{"item": "a", "price": float("nan")}], "price"),
        ([{"item": "a", "price": [1]}], "price"),
        ([{"item": "a", "price": 1e9}], "price"),
        (list("abcd"), r"has 4 items \(limit: 3\)"),
    ],
)
def test_what_is_no_list_of_candidates(value: Any, says: str) -> None:
    with pytest.raises(SlateError, match=says):
        items_text(value, 5, 1e6, 3)


def test_what_was_shown_with_and_without_propensities() -> None:
    given = shown_text([{"item": "b", "propensity": 0.25}, "a"], 9, 9)
    assert read_shown(given) == {"b": 0.25, "a": 1.0}
    assert list(read_shown(given)) == ["b", "a"]
    assert shown_text({"b": 0.25, "a": 1.0}, 9, 9) == given


@pytest.mark.parametrize("share", [0, -0.1, 1.1, True, "1", float("nan"), None])
def test_what_is_no_propensity(share: Any) -> None:
    with pytest.raises(SlateError, match="above 0 and at most 1"):
        shown_text([{"item": "a", "propensity": share}], 9, 9)


def test_rewards() -> None:
    assert read_reward(reward_text(7, True, 9, 9.0)) == ("7", 1.0)
    for value in ("1", None, float("inf"), 10):
        with pytest.raises(SlateError, match="finite number"):
            reward_text("a", value, 9, 9.0)
    with pytest.raises(SlateError, match="pair"):
        read_reward("a")


def test_of_several_rewards_for_an_item_the_greatest_counts() -> None:
    text = gathered(gathered(gathered(None, "a", 1.0), "b", -1.0), "a", 0.5)
    assert text == '{"a":1.0,"b":-1.0}'
    assert gathered(text, "b", 2.0) == '{"a":1.0,"b":2.0}'


def test_what_became_of_a_request() -> None:
    beside = (
        Unserved("popularity", Prediction(None, {"b": 0.0, "a": 1.0}, 0.7), ModelVersion(0, 1)),
        Unserved("estimate", Prediction(None, {"b": 0.5, "a": 0.25}, 4.0), ModelVersion(0, 1)),
        Unserved("model", Prediction(), ModelVersion(0, 1)),
    )
    served = Prediction(True, {"b": 0.9, "a": 0.1}, 0.75)
    found = read_feedback(feedback_text(served, beside, '{"a":2.0}'))
    policies = {"popularity": Estimated({"b": 0.0, "a": 1.0}, 0.7)}
    assert found == Feedback({"b": 0.0, "a": 2.0}, {"b": 0.5, "a": 0.25}, 4, True, policies)
    assert read_feedback(feedback_text(Prediction(), (), None)) == Feedback({})
