"""Incidents: the alerts of one change are a few messages, and none of them is lost."""

from __future__ import annotations

import random
from typing import Any

import orjson

from driftline.operate.incident import (
    EPISODES_MAX,
    INCIDENTS_MAX,
    KNOWN_BYTES_MAX,
    TOGETHER_MS,
    Incidents,
    Message,
    forebodes,
    key_of,
)
from driftline.operate.webhook import body
from tests.operate.test_webhook import ALERT, NOW, alert, webhook

MINUTE_MS = 60_000


def of(shard: int, signal: str, state: str = "opened", at_ms: int = 0, **changes: Any) -> dict[str, Any]:
    """An alert of an episode that opened in the first minute unless `opened_ms` says otherwise."""
    given = {"kind": "concept_drift", "opened_ms": 0, "time_ms": at_ms, **changes}
    update = 2 if state == "resolved" else 1
    return alert(episode=f"p-{shard}-{signal}-l7", state=state, update=update, **given)


def test_one_change_over_shards_and_signals_is_three_messages() -> None:
    incidents = Incidents()
    signals = [
        ("error", "concept_drift"),
        ("loss", "concept_drift"),
        ("score", "score_drift"),
        ("metric:F1", "performance"),
    ]
    opened = [of(shard, name, kind=kind) for shard in (0, 1) for name, kind in signals]
    (first,) = incidents.take(opened[:3])
    assert (first.state, len(first.parts)) == ("opened", 3)
    assert incidents.take(opened[3:]) == [], "the same change, on another shard and on other signals"
    change = of(0, "model_change", "resolved", MINUTE_MS, kind="model_change", opened_ms=MINUTE_MS)
    (changed,) = incidents.take([change])
    assert (changed.state, len(changed.parts)) == ("ongoing", 9), "with all that opened in between"
    over = [{**one, "state": "resolved", "update": 2, "time_ms": 90 * MINUTE_MS} for one in opened]
    assert incidents.take(over[:5]) == []
    (last,) = incidents.take(over[5:])
    assert last.state == "resolved"
    assert {key_of(part) for part in last.parts} == {key_of(one) for one in [*over, change]}
    assert incidents.known == []


def test_what_begins_to_hurt_is_a_message() -> None:
    incidents = Incidents()
    assert len(incidents.take([of(0, "features", kind="data_drift")])) == 1
    assert incidents.take([of(1, "features", kind="data_drift")]) == []
    (worse,) = incidents.take([of(1, "error")])
    assert worse.parts[0]["kind"] == "concept_drift"
    (critical,) = incidents.take([of(0, "error", severity="critical")])
    assert critical.severity == "critical"


def test_what_is_of_another_kind_or_time_is_a_message_of_its_own() -> None:
    incidents = Incidents()
    assert len(incidents.take([of(0, "error"), of(0, "rejected:events", kind="data_quality")])) == 2
    later = of(1, "error", opened_ms=2 * TOGETHER_MS, at_ms=2 * TOGETHER_MS)
    assert len(incidents.take([later])) == 1


def test_that_it_lasts_is_said_once_in_a_while() -> None:
    incidents = Incidents()
    incidents.take([of(0, "error"), of(1, "error")])
    assert incidents.take([of(0, "error", "ongoing", MINUTE_MS)]) == []
    (lasts,) = incidents.take([of(0, "error", "ongoing", 2 * TOGETHER_MS), of(1, "error", "ongoing", 2 * TOGETHER_MS)])
    assert lasts.state == "ongoing"
    assert incidents.take([of(1, "error", "ongoing", 2 * TOGETHER_MS + MINUTE_MS)]) == []


def test_a_reader_that_starts_knows_what_was_posted() -> None:
    incidents = Incidents()
    incidents.recall(of(0, "error"))
    assert incidents.take([of(1, "error")]) == []
    incidents.take([of(0, "error", "resolved", 90 * MINUTE_MS)])
    (last,) = incidents.take([of(1, "error", "resolved", 90 * MINUTE_MS)])
    assert (last.state, len(last.parts)) == ("resolved", 2)


def test_a_flood_of_one_moment_is_not_gathered_without_end() -> None:
    """Alerts whose time stands still are never due, and were kept, each of them."""
    incidents = Incidents()
    incidents.take([of(0, "error")])
    for number in range(5_000):
        incidents.take([{**of(0, "error", "ongoing"), "update": number}])
    (known,) = incidents.known
    assert [alert["update"] for alert in known.unposted] == [4_999]


def test_the_alerts_that_are_kept_have_a_size() -> None:
    incidents = Incidents()
    for number in range(300):
        long = of(number, "error", opened_ms=3 * number * TOGETHER_MS, sentence="s" * 60_000)
        incidents.take([long])
    assert sum(len(orjson.dumps(list(one.latest.values()))) for one in incidents.known) < KNOWN_BYTES_MAX + 100_000
    assert incidents.known[-1].latest["p-299-error-l7"]["sentence"], "the latest stays"


def test_nothing_is_lost_however_it_is_gathered() -> None:
    """Each episode is in a message before its end, or in that of its end; and all is bounded."""
    for seed in range(50):
        chance = random.Random(seed)
        kinds = ["concept_drift", "data_drift", "performance", "label_delay", "data_quality", "guard", "model_failure"]
        stream, ends = list[dict[str, Any]](), list[dict[str, Any]]()
        for number in range(120):
            opened_ms = number * chance.choice([1, 10, 30]) * MINUTE_MS
            one = of(number % 3, f"s{number}", kind=chance.choice(kinds), opened_ms=opened_ms, at_ms=opened_ms)
            stream.append(one)
            ends.append({**one, "state": "resolved", "update": 2})
            if chance.random() < 0.5:
                stream.append(ends.pop(chance.randrange(len(ends))))
        stream += ends
        incidents, posted, messages = Incidents(), set[str](), list[Message]()
        while stream:
            size = chance.randint(1, 20)
            made = incidents.take(stream[:size])
            del stream[:size]
            messages += made
            posted |= {key_of(part) for message in made for part in message.parts}
            assert len(incidents.known) <= INCIDENTS_MAX
            assert all(len(one.latest) <= EPISODES_MAX for one in incidents.known)
        assert incidents.known == []
        assert {f"s{number}" for number in range(120)} == {key.split("-")[2] for key in posted}
        assert sum(key.split(":")[-2] == "resolved" for key in posted) == 120
        assert len({message.key for message in messages}) == len(messages)


def test_the_key_is_the_same_for_the_same_parts_only() -> None:
    parts = (of(0, "error"), of(1, "error"))
    assert Message("opened", parts, ()).key == Message("opened", parts[::-1], parts).key
    assert Message("opened", parts, ()).key != Message("opened", parts[:1], ()).key


def test_slack_gets_the_parts_as_lines_and_a_reset_has_no_tick() -> None:
    reset = of(0, "model_change", "resolved", kind="model_change", sentence="p was reset: expect poor predictions.")
    text = written(Message("ongoing", (of(0, "error", severity="critical"), of(1, "error"), reset), ()))
    assert text.startswith(":red_circle: *p* critical, concept drift, model change, ongoing on 2 shards\n")
    assert "• [shard 1, opened] Since about 5 labels ago" in text
    assert "• [shard 0] p was reset" in text
    alone = written(Message("changed", (reset,), ()))
    assert alone.startswith(":arrows_counterclockwise:")
    assert "check_mark" not in alone
    many = written(Message("opened", tuple(of(0, f"s{number}") for number in range(30)), ()))
    assert "and 22 more" in many


def written(message: Message) -> str:
    text: str = orjson.loads(body(webhook(form="slack"), message, NOW))["text"]
    return text


def test_programs_get_each_part_as_it_is_in_the_topic() -> None:
    document = orjson.loads(body(webhook(group="5s"), Message("opened", (ALERT, of(1, "error")), ()), NOW))
    assert document["parts"][0] == ALERT
    assert document["sentence"] == ALERT["sentence"]
    assert webhook().gather_s == 0
    assert webhook(form="slack").gather_s == 30


def test_a_drift_after_contradicting_labels_is_no_message_of_its_own() -> None:
    incidents = Incidents()
    suspect: dict[str, Any] = {"kind": "quarantine", "severity": "warning"}
    (first,) = incidents.take([of(0, "quarantine", **suspect)])
    assert (first.state, first.severity) == ("opened", "warning")
    assert incidents.take([of(1, "quarantine", **suspect)]) == []
    drift = of(0, "error", severity="critical", at_ms=MINUTE_MS)
    assert incidents.take([drift]) == []
    ends = [{**one, "state": "resolved", "update": 2, "time_ms": 90 * MINUTE_MS} for one in (drift, *first.parts)]
    assert incidents.take(ends) == []
    (last,) = incidents.take([of(1, "quarantine", "resolved", 91 * MINUTE_MS, **suspect)])
    assert (last.state, last.severity, len(last.parts)) == ("resolved", "critical", 3)


def test_labels_that_are_held_are_a_message_as_there_is_something_to_decide() -> None:
    incidents = Incidents()
    incidents.take([of(0, "error", severity="warning"), of(0, "quarantine", kind="quarantine", severity="warning")])
    assert len(incidents.take([of(1, "quarantine", kind="quarantine", severity="critical")])) == 1
    held = of(0, "quarantine", kind="quarantine", severity="critical")
    assert [forebodes(one) for one in (held, {**held, "severity": "warning"}, of(0, "error"))] == [False, True, False]


def test_the_same_change_of_the_model_on_other_shards_is_told_once() -> None:
    incidents = Incidents()
    incidents.take([of(0, "error"), of(1, "error")])

    def change(shard: int, at_ms: int, reaction: str = "reset") -> list[Message]:
        evidence = {"reaction": reaction}
        times: dict[str, Any] = {"at_ms": at_ms, "opened_ms": at_ms, "evidence": evidence}
        return incidents.take([of(shard, f"c{at_ms}", "resolved", kind="model_change", **times)])

    assert len(change(0, MINUTE_MS)) == 1
    assert change(1, 5 * MINUTE_MS) == []
    assert len(change(0, 6 * MINUTE_MS, "load")) == 1
    assert len(change(1, 50 * MINUTE_MS)) == 0
    incidents.take([of(0, "error", "ongoing", 50 * MINUTE_MS)])
    assert len(change(0, 55 * MINUTE_MS + TOGETHER_MS)) == 1


def test_the_end_says_first_how_things_stand_and_a_reset_was_earlier() -> None:
    incidents = Incidents()
    times: dict[str, Any] = {"at_ms": MINUTE_MS, "opened_ms": MINUTE_MS}
    reset = of(0, "change", "resolved", kind="model_change", sentence="p was reset: expect poor predictions.", **times)
    incidents.take([of(0, "error"), reset])
    (last,) = incidents.take([of(0, "error", "resolved", 90 * MINUTE_MS, sentence="p has recovered.")])
    assert written(last).splitlines()[1:3] == [
        "• p has recovered.",
        "• [earlier] p was reset: expect poor predictions.",
    ]
