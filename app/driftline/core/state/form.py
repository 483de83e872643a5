"""The form of what a state holds: which attributes each of our classes has, and what may stand in them.

A reading takes any value for any attribute, and the code trusts its own. So a state that no key vouches for is held to
the table below, part by part, beside a fresh shard of the same pipeline: sizes and settings are equal to its, numbers
can be counted on and written, and nothing stands where a method belongs. River's own objects are not in the table:
what a model raises costs the record that caused it (`core.fault`), and its structure is compared elsewhere
(`core.state.likeness`); a metric that raises passes the label over, and a detector that raises finds nothing more.

Cost: 1 us a value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache
from math import isfinite
from types import UnionType
from typing import Any, Final, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from driftline.core.budget import Budget, Period
from driftline.core.drift.change_point import Trail
from driftline.core.drift.feature import CategoryWatch, MissingWatch, SeasonWatch, ValueWatch, VocabularyWatch
from driftline.core.drift.monitor import Chosen, Flipped, Monitor
from driftline.core.drift.monitors import DriftMonitors
from driftline.core.drift.reaction import Background, Reactor
from driftline.core.drift.reference import Reference, Season
from driftline.core.error import SnapshotError
from driftline.core.fault import Faults
from driftline.core.forecast.board import Board
from driftline.core.forecast.forecasts import Forecasts
from driftline.core.forecast.interval import Intervals
from driftline.core.guard.quarantine import Copies
from driftline.core.guard.second import Second
from driftline.core.metric.account import Account
from driftline.core.metric.culprit import Errors
from driftline.core.metric.evaluation import Evaluation, _Binned, _Mean, _Replayed
from driftline.core.metric.kpi import Kpi, Kpis, Span
from driftline.core.metric.maturity import Delays, Expected, Maturity
from driftline.core.model.learner import Learner
from driftline.core.output import Prediction
from driftline.core.recommend.recommender import Recommender
from driftline.core.record import Chunk, FeatureValue, LabelValue
from driftline.core.river.ahead import Direct, PerSeries
from driftline.core.river.building import last_step
from driftline.core.river.curve import Curve
from driftline.core.river.items import LinearItems, Popularity
from driftline.core.river.seasonal import SeasonalNaive, SeasonalRegression
from driftline.core.shard.command import Commands
from driftline.core.shard.upload import Loading
from driftline.core.state.whole import COUNT_MAX, NUMBER_MAX, RULES, is_number

_SUM_BITS: Final = 256
_JSON_BYTES_MAX: Final = 1_000_000
_DEPTH_MAX: Final = 40
_PLAIN: Final = frozenset({bool, str, bytes, bytearray, type(None)})

Path: TypeAlias = tuple[str, ...]


class UnsoundError(SnapshotError):
    """A state that none of ours wrote."""


class Same:
    """Of an attribute that is as in a fresh shard."""


class Finite:
    """A number that is neither infinite nor NaN."""


class Amount:
    """A finite number of 0 or more."""


class Ordered:
    """A number that can be put in order: not NaN."""


class Count:
    """A whole number of 0 or more."""


class Sum:
    """A whole number that may be of more than 64 bits, as sums of amounts are."""


Form: TypeAlias = Mapping[str, Any]

_ACCOUNT: Final[Form] = {
    "known": dict[str, list[Sum]], "assumed": dict[str, list[Sum]], "waiting": list[Sum], "expired": list[Sum],
    "lacking": dict[str, int],
}  # fmt: skip

FORMS: Final[dict[type, Form]] = {
    Faults: {
        "calls": Count, "resting": Count, "episode": Count, "open": bool, "_rested": bool, "_recent": deque[int],
    },
    Background: {"model": Any, "monitor": str, "began": int, "learned": Count},
    Reactor: {
        "cooldown": Same, "factor": Same, "count": Same, "quiet_until": int, "background": Background | None,
    },
    # -- forecasts
    Forecasts: {
        "intervals": Intervals, "board": Board, "segments": dict[str, Board], "swung": Amount, "sizes": Amount,
    },
    Intervals: {
        "miss": Same, "gain": Same, "window": Same, "alphas": list[Finite], "judged": list[Count],
        "_kept": list[deque[Ordered]], "_sorted": list[list[Ordered]], "usual": float, "latest": float,
    },
    Board: {"sums": Any},
    Direct: {"models": list[Any], "horizons": Same},
    PerSeries: {"fresh": Any, "horizons": Same, "series_max": Same, "kept": dict[bytes, tuple[int, Any]]},
    SeasonalNaive: {"horizons": Same},
    SeasonalRegression: {
        "l2": Same, "huber": Same, "half_life": Same, "mixed": Same, "horizons": Same, "declared": Same,
        "seen": Any, "errors": Any, "_moments": Any, "_precision": Any, "_moment": Any, "weights": Any, "_rows": Any,
        "_waiting": Count,
    },
    # -- slates
    Recommender: {"model": Any, "popularity": Popularity, "_conditions": Any},
    Popularity: {
        "prior": Same, "half_life": Same, "items_max": Same, "evicted": Count, "_seen": dict[str, tuple[float, float]],
        "_requests": Count, "_all": tuple[float, float, float],
    },
    LinearItems: {
        "l2": Same, "half_life": Same, "items_max": Same, "columns_max": Same, "evicted": Count, "ignored": Count,
        "_columns": dict[str, Count], "_rows": dict[str, Count], "_free": list[Count], "_requests": Count,
        "_mean": float, "_weight": float, "_noise": tuple[float, float],
        "_precision": Any, "_inverse": Any, "_moment": Any, "_weights": Any,
    },
    # -- drift
    DriftMonitors: {
        "task": Same, "names": Same, "warmup_labels": Same, "reference_size": Same, "categories_max": Same,
        "warning_span": Same, "label_count": Count, "score_count": Count, "direct": Mapping[Any, list[Monitor]],
        "features": list[tuple[Count, Monitor]], "watches": list[tuple[Count, ValueWatch]], "of_events": Same,
    },
    Monitor: {
        "name": str, "signal": str, "expression": str, "detector": Any, "bad": Same, "reference": Reference | None,
        "looser": Any, "act": Same, "scale": Same, "warning_span": Same, "unit": Same, "trail": Trail,
        "means": Trail | None,
        "observed": Count, "drift_count": Count, "warning_count": Count, "warned": bool, "calm_at": Count,
        "settled": bool, "moved_from": tuple[float, int] | None, "warns": Same,
    },
    Flipped: {"detector": Any, "warns": Same},
    Trail: {"levels": list[list[float]]},
    Reference: {"size": Same, "collected": deque[float] | None, "ordered": list[float]},
    Season: {
        "period_ms": Same, "size": Same, "slot_max": Same, "frozen": bool, "passed": Count, "_seen": Count,
        "_periods": int, "_latest": int | None, "_values": list[list[float]], "_strides": list[Count],
        "_counts": list[Count],
    },
    SeasonWatch: {"name": Same, "season": Season, "monitor": Monitor},
    MissingWatch: {"fill": Same, "_monitors": list[Monitor], "_bit": Any},
    CategoryWatch: {
        "name": Same, "size": Same, "rate_max": Same, "warning_span": Same, "known": dict[FeatureValue, Count],
        "seen": Count, "_chosen": list[Chosen], "_novelty": list[Monitor],
        "_rates": list[tuple[FeatureValue, list[Monitor]]],
    },
    VocabularyWatch: {
        "name": Same, "size": Same, "seen": Count, "_slots": bytearray, "_monitors": list[Monitor],
    },
    # -- metrics
    Evaluation: {
        "label_count": int, "unanswered": int, "taken": Count, "window": Same, "revertible": Same,
        "since": dict[str, Count], "tracks": dict[str, _Mean | _Binned | _Replayed], "_updates": Any,
    },
    _Mean: {
        "count": float, "mean": float, "skipped_count": int, "recent": deque[float | bool], "numbers": deque[int],
    },
    Curve: {
        "pos_val": LabelValue, "positives": dict[int, Count], "negatives": dict[int, Count], "positive_count": Count,
        "negative_count": Count,
    },
    _Binned: {"metric": Curve, "skipped_count": int, "recent": deque[Count], "numbers": deque[int]},
    _Replayed: {
        "metric": Any, "fresh": Any, "input": Same, "count": int, "skipped_count": int,
        "recent": deque[tuple[Any, Any]], "numbers": deque[int],
    },
    Errors: {"latest": deque[tuple[str, float]]},
    Delays: {"counts": dict[int, Count], "count": Count},
    Expected: {
        "window": Same, "sureness": deque[Finite], "pairs": deque[tuple[Finite, bool]], "labels_until_reliable": Count,
    },
    Maturity: {
        "scored": int, "joined": int, "unlabelled": int, "delays": Delays, "expected": Expected | None,
        "_ages_ms": Same, "ages": list[Evaluation], "_ages_since": Count, "_segments_since": Count, "_feature": Same,
        "_segment_max": Same, "segments": dict[str, Evaluation], "_span_ms": Same,
        "span": deque[tuple[int, LabelValue, Prediction]], "errors": Errors | None,
    },
    Kpis: {"each": dict[str, Kpi], "layouts": list[tuple[str, ...]], "next_ms": int, "_plan": Any},
    Kpi: {
        "total": Account, "parts": dict[str, Account], "spans": dict[int, Span], "ended_ms": int, "first_ms": int,
        "since": int,
    },
    Account: _ACCOUNT,
    Span: {**_ACCOUNT, "ended": bool, "broken": bool},
    # -- commands
    Commands: {
        "floor_ms": int, "crowded_ms": int, "latest": deque[tuple[str, str, int]], "_taken": dict[str, int],
        "_unsigned": dict[str, int] | None,
    },
    Loading: {
        "load": str, "how": Literal["under way", "whole", "damaged", "given up"], "superseded": Count,
        "_first": Chunk | None, "_parts": dict[Count, bytes], "_size": Count, "_until_ms": int,
    },
    Budget: {
        "period": int, "since": Count, "used": Count, "generation": Count, "threshold": Ordered, "share": Amount,
        "credit": Amount, "slot": int, "used_then": Count, "scores": list[Finite], "times": list[Count],
        "dropped": Count, "counts": list[Count], "past": list[Period],
    },
    Learner: {
        "generation": Count, "learned": Count, "_good": bytes | None, "faults": Faults, "_probabilistic": Same,
        "began": int, "_good_known": Count, "trusted": bool, "_model": Any,
    },
    Second: {
        "learner": Learner, "copies": Copies, "labels": Count, "first_error": Amount, "own_error": Amount,
    },
}  # fmt: skip
"""By class, its attributes. Structs and dataclasses have theirs in their own annotations."""


def conform(value: Any, form: Any, like: Any = None, path: Path = ()) -> None:
    """Hold a value to its form, with all that is in it.

    Args:
        form: a type as an annotation has it.
        like: what stands there in a fresh shard, if anything.

    Raises:
        UnsoundError: it is not of it.
    """
    if len(path) > _DEPTH_MAX:
        raise unsound(path, value)
    if form is Any:
        return
    origin = get_origin(form)
    if origin is None:
        _conform_plain(value, form, like, path)
    elif origin in (Union, UnionType):
        _conform_one_of(value, get_args(form), like, path)
    elif origin is Literal:
        _must(type(value) is str and value in get_args(form), path, value)
    elif origin is tuple:
        _conform_tuple(value, get_args(form), like, path)
    else:
        _conform_container(value, origin, get_args(form), like, path)


def conform_model(model: Any, own: Any, name: str) -> None:
    """Hold a model to its form, as far as it is of our own making.

    Args:
        own: the pipeline's, untrained.
        name: what it is called in an error.

    Raises:
        UnsoundError: it is not of it.
    """
    if attributes(type(own)) is not None:
        conform(model, type(own), own, (name,))
    if isinstance(own, Recommender) and attributes(type(last := last_step(own.model))) is not None:
        conform(last_step(model.model), type(last), last, (name,))


def unsound(path: Path, value: object) -> UnsoundError:
    """What is wrong, with the way to it."""
    try:
        text = repr(value)[:60]
    except Exception:  # noqa: BLE001 - of a number with too many digits, or of whatever was made half
        text = f"a {type(value).__name__}"
    return UnsoundError(f"it holds {'.'.join(path) or 'a part'} = {text}")


def _must(holds: bool, path: Path, value: object) -> None:
    if not holds:
        raise unsound(path, value)


def _conform_plain(value: Any, form: Any, like: Any, path: Path) -> None:
    if form is int:
        _must(type(value) is int and -NUMBER_MAX <= value <= NUMBER_MAX, path, value)
    elif form is Count:
        _must(type(value) is int and 0 <= value <= COUNT_MAX, path, value)
    elif form is float:
        _must(is_number(value), path, value)
    elif form is Ordered:
        _must(is_number(value) and value == value, path, value)
    elif form is Sum:
        _must(type(value) is int and value.bit_length() <= _SUM_BITS, path, value)
    elif form is Finite or form is Amount:
        _must(is_number(value) and isfinite(value) and (form is Finite or value >= 0), path, value)
    elif form in _PLAIN or form is None:
        _must(type(value) is (type(None) if form is None else form), path, value)
    elif form is object:
        _must(_is_document(value), path, value)
    elif form is Same:
        _must(like is None or (type(value) is type(like) and value == like), path, value)
    else:
        _conform_object(value, form, like, path)


def _is_document(value: object) -> bool:
    try:
        return len(msgspec.json.encode(value)) <= _JSON_BYTES_MAX
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False


def _conform_one_of(value: Any, forms: Iterable[Any], like: Any, path: Path) -> None:
    for form in forms:
        try:
            conform(value, form, like, path)
        except UnsoundError:
            continue
        return
    raise unsound(path, value)


def _conform_tuple(value: Any, forms: tuple[Any, ...], like: Any, path: Path) -> None:
    _must(type(value) is tuple, path, value)
    if len(forms) == 2 and forms[1] is Ellipsis:
        forms = (forms[0],) * len(value)
    _must(len(value) == len(forms), path, value)
    there = like if type(like) is tuple and len(like) == len(value) else (None,) * len(value)
    for number, (one, form, other) in enumerate(zip(value, forms, there, strict=True)):
        conform(one, form, other, (*path, str(number)))


def _conform_container(value: Any, kind: type, forms: tuple[Any, ...], like: Any, path: Path) -> None:
    if issubclass(kind, Mapping):
        _must(type(value) is dict, path, value)
        key_form, form = forms
        there = like if type(like) is dict else {}
        for key, one in value.items():
            inner = (*path, repr(key)[:40])
            conform(key, key_form, None, inner)
            conform(one, form, there.get(key), inner)
        return
    _must(type(value) is kind, path, value)
    if kind is deque:
        _must(like is None or value.maxlen == like.maxlen, path, value)
    others: list[Any] = [None] * len(value)
    if isinstance(like, list | deque) and len(like) == len(value):
        others = list(like)
    for number, (one, other) in enumerate(zip(value, others, strict=True)):
        conform(one, forms[0], other, (*path, str(number)))


def _conform_object(value: Any, form: type, like: Any, path: Path) -> None:
    """An object of one of our classes, or of one that is derived from it."""
    kind = type(value)
    _must(issubclass(kind, form), path, value)
    other, known = (like if type(like) is kind else None), attributes(kind)
    if known is None:
        return
    for name, one in known.items():
        _must(hasattr(value, name), (*path, name), "nothing")
        conform(getattr(value, name), one, getattr(other, name, None), (*path, name))
    own = {} if other is None else getattr(other, "__dict__", {})
    for name, one in getattr(value, "__dict__", {}).items():
        _must(name in known or (name in own and type(one) is type(own[name])), (*path, name), one)
    rule = next((rule for one, rule in RULES.items() if issubclass(kind, one)), None)
    _must(rule is None or rule(value, other), path, value)


def attributes(kind: type) -> Form | None:
    """The form of a class's objects; None of one that has none."""
    return _attributes(cast("Hashable", kind))  # as mypy does not see of a type[Any]


@cache
def _attributes(kind: Hashable) -> Form | None:
    if not isinstance(kind, type):
        return None
    for one in kind.__mro__:
        if one in FORMS:
            return FORMS[one]
    return get_type_hints(kind) if issubclass(kind, Struct) or is_dataclass(kind) else None
