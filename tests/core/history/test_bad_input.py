"""History features under what no one wanted: keys that are none, a flood of keys, one key with all the traffic."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from driftline.codec.decode import Decoder
from driftline.core.history import keys as module
from driftline.core.output import Rejected, Score
from driftline.core.shard.state import Shard
from tests.core.history.test_history import event, pipeline, served, stream
from tests.support.folding import step
from tests.support.small import NOW_MS, source

FEATURES: dict[str, Any] = {
    "count": {"history": "count", "by": "who", "over": "1h"},
    "mean": {"history": "mean(amount)", "by": "who"},
    "risk": {"history": "label_mean", "by": ["who", "where"], "over": "1d"},
}
BAD: tuple[tuple[object, tuple[str, ...]], ...] = (  # what stands in place of a key, and why it is rejected
    ({"a": {"b": 1}}, ("feature_type",)),
    ([], ("feature_type",)),
    (True, ()),
    ("k" * 1_000_000, ("string_too_long", "too_large")),
    (1e300, ("feature_type",)),
    (None, ()),
    ("", ()),
    (7.0, ()),
    ("7", ()),
)


def fold(here: Shard, values: list[dict[str, Any]]) -> list[Score | Rejected]:
    """What each event made."""
    read, made = Decoder(here.pipeline).event, []
    for number, value in enumerate(values):
        time_ms = NOW_MS + 1_000 * min(value["id"], 89)
        (one,) = step(here, read(source("p.events", number, orjson.dumps(value), time_ms)))
        assert isinstance(one, Score | Rejected)
        made.append(one)
    return made


def good(count: int) -> list[dict[str, Any]]:
    rng = random.Random(4)
    return [
        {"id": number, "amount": rng.random(), "who": rng.choice(["ann", "bob"]), "where": rng.choice("xy")}
        for number in range(count)
    ]


def test_keys_that_are_none_are_counted_and_change_nothing_for_the_others() -> None:
    chosen = pipeline(FEATURES)
    alone, mixed = Shard(chosen, 0), Shard(chosen, 0)
    wanted = [one.features for one in fold(alone, good(90)) if isinstance(one, Score)]
    values = good(90)
    for place, (who, _) in enumerate(BAD):
        values.insert(10 * place + 3, {"id": 1_000 + place, "amount": 1.0, "who": who, "where": "z"})
    made = fold(mixed, values)
    ours = [
        one.features for one, value in zip(made, values, strict=True) if isinstance(one, Score) and value["id"] < 90
    ]
    assert ours == wanted
    rejected = {value["id"]: one for one, value in zip(made, values, strict=True) if isinstance(one, Rejected)}
    assert rejected.keys() == {1_000 + place for place, (_, reasons) in enumerate(BAD) if reasons}
    assert all(one.reason in BAD[number - 1_000][1] for number, one in rejected.items())
    held = mixed.history.summary()
    assert held["who"]["without_key"] == held["who+where"]["without_key"] == 2
    assert held["who"]["keys"] == 4  # ann, bob, 7 and true


def test_a_flood_of_keys_is_evicted_counted_and_leaves_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 keys within a minute, a thousand of which are kept: what is used in between stays whole."""
    monkeypatch.setattr(module, "SEGMENT", 64)
    chosen = pipeline({"count": {"history": "count", "by": "who"}}, event={"keys_max": 1_000})
    here, (seen,) = Shard(chosen, 0), stream(1, 1)
    held = here.history.keys[0]
    for number in range(20_000):
        seen.time_ms = NOW_MS + 3 * number
        seen.who = "regular" if number % 500 == 0 else f"once {number}"
        count = served(here, event(chosen, number, seen))["count"]
        assert count == (number // 500 if seen.who == "regular" else 0)
        assert len(held) <= 1_000
    assert held.evicted == 20_000 - 40 - 999
    assert sum(len(segment.keys) for segment in held.segments) < 4 * 1_000


def test_one_key_with_all_the_traffic_is_as_small_as_any_other() -> None:
    features = {
        **FEATURES,
        "day": {"history": "std(amount)", "by": "who", "over": "1d"},
        "lag": {"history": "lag(amount, 20)", "by": "who"},
        "kinds": {"history": "distinct(word)", "by": "who", "over": "1d"},
    }
    chosen = pipeline(features)
    here, (seen,) = Shard(chosen, 0), stream(1, 1)
    seen.who, rng = "ann", random.Random(2)
    plan = here.history.plan
    for number in range(6_000):
        seen.time_ms += rng.randrange(60_000)
        seen.amount, seen.word = rng.random(), f"w{rng.randrange(2_000)}"
        served(here, event(chosen, number, seen))
    for scheme, keys in zip(plan.schemes, here.history.keys, strict=True):
        assert len(keys) == 1
        assert len(keys.segments) <= 2
        (past,) = [past for segment in keys.segments for past in segment.pasts if past is not None]
        assert len(past) <= scheme.key_bytes_max
