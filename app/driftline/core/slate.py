"""Items, slates and rewards as text, the form in which they pass through a shard.

A shard's features and labels are plain values, packed and compared as such. So a request's candidates are one text, a
JSON array; a reward is one text, item and number; and what became of a request is one text, a JSON object. They are
made here and read here, always in the same form: equal content is equal text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from driftline.core.output import Prediction, Unserved

ItemFeatures: TypeAlias = dict[str, float | int | str | bool]

POPULARITY: Final = "popularity"
"""The policy that every request is also judged under: always the most popular items."""
POLICY: Final = "policy"
"""The pipeline's own policy, where another one chose the slate."""
ESTIMATE: Final = "estimate"
"""Not a policy: the reward that the model expects of each item of the slate."""

_to_json: Final = msgspec.json.Encoder().encode


class SlateError(ValueError):
    """What was read is no list of items, no slate or no reward; the text says what is allowed."""


class Item(Struct, frozen=True):
    """A candidate: its id as text, and features of its own."""

    item: str
    features: ItemFeatures = {}


class Estimated(Struct, frozen=True, omit_defaults=True):
    """A policy beside the one that chose the slate.

    Args:
        shares: by item of the slate, the probability with which this policy would have shown it.
        expected: the reward of a request under this policy, as the model expects it.
    """

    shares: dict[str, float]
    expected: float = 0.0


class Feedback(Struct, frozen=True, omit_defaults=True):
    """What became of one request.

    Args:
        rewards: by item of the slate, in its order.
        estimates: by item, the reward that the model expected.
        candidates: how many items there were to choose from.
        explored: whether the slate differs from the best that was known; None where another policy chose it.
        policies: others beside the one that chose.
    """

    rewards: dict[str, float]
    estimates: dict[str, float] = {}
    candidates: int = 0
    explored: bool | None = None
    policies: dict[str, Estimated] = {}


_items: Final = msgspec.json.Decoder(list[str | dict[str, float | int | str | bool]]).decode
_shown: Final = msgspec.json.Decoder(dict[str, float]).decode
_reward: Final = msgspec.json.Decoder(tuple[str, float]).decode
_rewards: Final = msgspec.json.Decoder(dict[str, float]).decode
_feedback: Final = msgspec.json.Decoder(Feedback).decode


def item_id(value: object, length_max: int) -> str:
    """An item's id, a text or whole number, as text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SlateError("an item's id must be a string or a whole number")
    text = str(value)
    if not 0 < len(text) <= length_max:
        raise SlateError(f"an item's id has 1 to {length_max} characters")
    return text


def items_text(value: object, length_max: int, number_max: float, count_max: int) -> str:
    """The text of a request's candidates: a list of ids, or of objects with `item` and further fields.

    An item that comes again counts once.

    Raises:
        SlateError: it is no such list.
    """
    if isinstance(value, str):
        value = _read_array(value)
    if not isinstance(value, list):
        raise SlateError("must be a list of item ids, or of objects with `item` and features")
    if len(value) > count_max:
        raise SlateError(f"has {len(value)} items (limit: {count_max})")
    found: dict[str, ItemFeatures] = {}
    for one in value:
        if isinstance(one, dict):
            name = item_id(one.get("item"), length_max)
            features = {str(key): part for key, part in one.items() if key != "item" and part is not None}
            for key, part in features.items():
                _check_feature(key, part, length_max, number_max)
            found.setdefault(name, features)
        else:
            found.setdefault(item_id(one, length_max), {})
    return _to_json([{"item": name, **features} if features else name for name, features in found.items()]).decode()


def _check_feature(key: str, value: object, length_max: int, number_max: float) -> None:
    if isinstance(value, str) and len(value) <= length_max:
        return
    if isinstance(value, bool | int | float) and abs(value) <= number_max:  # not NaN either
        return
    raise SlateError(f"feature {key!r:.80} of an item must be a finite number, true, false or a short string")


def shown_text(value: object, length_max: int, count_max: int) -> str:
    """The text of a slate that was shown: a list of ids (shown for certain) or of objects with `item` and
    `propensity`, or an object from ids to propensities.

    Raises:
        SlateError: it is no such list.
    """
    if isinstance(value, str):
        value = _read_array(value)
    if isinstance(value, dict):
        value = [{"item": name, "propensity": share} for name, share in value.items()]
    if not isinstance(value, list):
        raise SlateError("must be a list of item ids, or of objects with `item` and `propensity`")
    if len(value) > count_max:
        raise SlateError(f"has {len(value)} items (limit: {count_max})")
    found: dict[str, float] = {}
    for one in value:
        name, share = (one.get("item"), one.get("propensity", 1.0)) if isinstance(one, dict) else (one, 1.0)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise SlateError("a propensity must be a number above 0 and at most 1")
        found.setdefault(item_id(name, length_max), float(share))
    return _to_json(found).decode()


def _read_array(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        raise SlateError("is a string that holds no JSON array") from None


def read_items(text: str) -> list[Item]:
    return [Item(one) if isinstance(one, str) else Item(str(one.pop("item")), one) for one in _items(text)]


def read_shown(text: str) -> dict[str, float]:
    return _shown(text)


def reward_text(item: object, value: object, length_max: int, number_max: float) -> str:
    """The text of one reward.

    Raises:
        SlateError: item or value are none.
    """
    if not isinstance(value, bool | int | float) or not isfinite(value) or abs(value) > number_max:
        raise SlateError("a reward must be true, false or a finite number")
    return _to_json((item_id(item, length_max), float(value))).decode()


def read_reward(text: Any) -> tuple[str, float]:
    try:
        return _reward(text)
    except (msgspec.MsgspecError, TypeError):
        raise SlateError("a reward must be a pair of item and number") from None


def gathered(text: str | None, item: str, reward: float) -> str:
    """The rewards of a request so far, with one more: of several for an item the greatest counts, so that a repeated
    message does no harm."""
    found = _rewards(text) if text is not None else {}
    before = found.get(item)
    found[item] = reward if before is None or reward > before else before
    return _to_json(found).decode()


def feedback_text(served: Prediction, unserved: Iterable[Unserved], text: str | None) -> str:
    """What became of a request, at its end.

    Args:
        served: the slate.
        unserved: what was kept beside it.
        text: the rewards that came, as `gathered` has them; None where none came.
    """
    came: Mapping[str, float] = _rewards(text) if text is not None else {}
    rewards = {str(item): came.get(str(item), 0.0) for item in served.probabilities or {}}
    estimates: dict[str, float] = {}
    candidates, policies = 0, {}
    for one in unserved:
        shares = {str(item): share for item, share in (one.prediction.probabilities or {}).items()}
        if one.name == ESTIMATE:
            estimates, candidates = shares, int(one.prediction.value or 0)
        elif one.name in (POLICY, POPULARITY):
            policies[one.name] = Estimated(shares, one.prediction.value or 0.0)
    explored = served.label if isinstance(served.label, bool) else None
    return _to_json(Feedback(rewards, estimates, candidates, explored, policies)).decode()


def read_feedback(text: Any) -> Feedback:
    return _feedback(text)
