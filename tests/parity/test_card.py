"""A model card says what a backtest of what was served says, and the same from every run of the same records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec import structs

from driftline.backtest.candidate import Result
from driftline.backtest.card import Card, encode, schema
from driftline.backtest.card_count import DIGITS, GENERATIONS_MAX, Cards
from driftline.backtest.card_page import render, text
from driftline.backtest.measure import total_values
from driftline.backtest.part import segments_of
from driftline.cli.card import gather
from driftline.cli.digest import gather as digest_of
from driftline.codec.journal import EpochEntry
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.operate.digest_page import page_of
from driftline.operate.digest_page import render as render_digest
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, STEP_MS, Life, pipeline, produce
from tests.parity.test_backtest import backtest, spec
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker
from tests.support.pipelines import settings

ROOT = Path(__file__).resolve().parents[2]
COUNT = 600
KPI: dict[str, Any] = {
    "loss": {"unit": "EUR", "costs": {"false_negative": 9.5, "false_positive": "z"}, "by": "word", "limit": 400}
}


def _card_pipeline() -> Pipeline:
    return pipeline("card", kpi=KPI, metric_by={"segment": "word"}, decision={"threshold": 0.4})


async def _reset_once(chosen: Pipeline) -> MemoryCluster:
    """A run in which an operator resets the model half way."""
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        cluster.produce(chosen.topics.control, 0, b'{"command":"reset"}', NOW_MS + (COUNT + 50) * STEP_MS)
        await life.until_done()
        produce(cluster, chosen, COUNT, first=COUNT + 100)
        await life.until_done()
        await life.stop()
    return cluster


async def _cards(cluster: MemoryCluster, chosen: Pipeline) -> list[Card]:
    broker = MemoryBroker(cluster, chosen, client="card")
    layout = Layout(cluster.partitions[chosen.topics.journal], cluster.partitions)
    found = await gather(broker, chosen, settings("localhost:1"), layout, chosen.metric_by.segment)
    return [found.card(generation, "pipeline.yaml") for generation in sorted(found.generations)]


def _shown(value: float | None) -> float | None:
    return None if value is None or value != value else float(f"{value:.{DIGITS}g}")


def _figures(result: Result) -> tuple[Any, ...]:
    metrics = {name: _shown(value) for name, value in total_values(result.tally, None).items()}
    parts = segments_of(result.tally, None)
    segments = [(part.name, part.n, {name: _shown(value) for name, value in part.values.items()}) for part in parts]
    kpis = [] if result.tally.kpis is None else result.tally.kpis.report(None)
    priced = {kpi.name: (kpi.events, kpi.total, {one.name: one.total for one in kpi.segments}) for kpi in kpis}
    return int(result.tally.total.sums[0, 0]), metrics, segments, priced


async def test_figures_are_those_of_a_backtest_against_live() -> None:
    chosen = _card_pipeline()
    cluster = await _reset_once(chosen)
    cards = await _cards(cluster, chosen)
    assert [card.generation for card in cards] == [0, 1]
    for card in cards:
        (live,), _ = await backtest(cluster, chosen, spec(chosen), generation=card.generation, segment="word")
        assert (live.live, live.against.differing) == (True, 0)
        assert card.labelled > COUNT // 2
        segments = [(one.name, one.n, one.metrics) for one in card.segments]
        priced = {name: (kpi.known_events, kpi.known, kpi.segments) for name, kpi in card.kpis.items()}
        assert (card.labelled, card.metrics, segments, priced) == _figures(live)
    (whole,), _ = await backtest(cluster, chosen, spec(chosen))
    assert sum(card.labelled for card in cards) == whole.tally.total.sums[0, 0]
    assert [card.learned.first for card in cards] == [0, 0]


async def test_two_runs_of_the_same_records_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the worker cut its slices, and however many records a reader gets at a time."""
    chosen = _card_pipeline()
    limits = chosen.limits.model_copy(update={"slice_records_max": 40})
    runs = [chosen, chosen.model_copy(update={"limits": limits})]
    clusters = [await _reset_once(chosen) for chosen in runs]
    one, other = (len(cluster.records(runs[0].topics.journal, 0)) for cluster in clusters)
    assert one < other
    first, second = [await _cards(cluster, chosen) for cluster, chosen in zip(clusters, runs, strict=True)]
    monkeypatch.setattr("driftline.cli.digest.READ_RECORDS_MAX", 7)
    third = await _cards(clusters[0], runs[0])
    assert list(map(encode, first)) == list(map(encode, second)) == list(map(encode, third))
    assert [render(card, runs[0]) for card in first] == [render(card, runs[0]) for card in second]


async def test_two_runs_of_the_same_records_give_the_same_digest() -> None:
    """What a worker notes in its journal, and when, makes no difference: figures are of what was published."""
    chosen = _card_pipeline()
    limits = chosen.limits.model_copy(update={"slice_records_max": 40})
    texts = []
    for one in (chosen, chosen.model_copy(update={"limits": limits})):
        cluster = await _reset_once(one)
        broker = MemoryBroker(cluster, one, client="digest")
        until_ms = NOW_MS + (2 * COUNT + 50) * STEP_MS
        found = await digest_of(broker, one, settings("localhost:1"), cluster.partitions, COUNT * STEP_MS, until_ms)
        page = page_of(found, "pipeline.yaml", None)
        texts.append([render_digest(page, form) for form in ("markdown", "html", "email")])
        assert found.quality.count > 500
        assert found.quality_before.count > 400
        for name in ("LogLoss", "ROCAUC"):
            assert f"in the span before {found.quality_before.values()[name]:.4g}" in texts[0][0]
    assert texts[0] == texts[1]


async def test_a_card_and_a_digest_say_how_good_the_second_model_is() -> None:
    guard = {
        "range": {"min": 0.3, "max": 0.6, "action": "fallback"},
        "fallback": [{"model": "Select('x') | StandardScaler() | LogisticRegression(l2=1.0)"}, {"value": 0.5}],
    }
    chosen = pipeline("card", guard=guard)
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await life.stop()
    (card,) = await _cards(cluster, chosen)
    assert card.second is not None
    assert card.second.labels > 400
    assert card.served.instead["second_model"] > 0
    jsonschema.validate(json.loads(encode(card)), json.loads((ROOT / "schemas" / "card.schema.json").read_text()))
    until_ms = NOW_MS + (COUNT + 50) * STEP_MS
    broker = MemoryBroker(cluster, chosen, client="digest")
    found = await digest_of(broker, chosen, settings("localhost:1"), cluster.partitions, COUNT * STEP_MS, until_ms)
    digest = render_digest(page_of(found, "pipeline.yaml", None), "markdown")
    for page in ("\n".join(text(card, chosen)), digest):
        assert "the second model's prediction was served instead" in page
        assert "The second model's mean error was" in page


async def test_a_card_has_its_schema_and_its_page_needs_nothing_else() -> None:
    committed = json.loads((ROOT / "schemas" / "card.schema.json").read_text())
    assert committed == json.loads(json.dumps(schema()))
    chosen = _card_pipeline()
    for card in await _cards(await _reset_once(chosen), chosen):
        jsonschema.validate(json.loads(encode(card)), committed)
        page = render(card, chosen)
        assert not re.search(r"(src|href)=|https?://|<script", page)
        assert f"--generation {card.generation}" in page
        assert all(section in page for section in ("What it served", "By word", "Loss", "Known troubles"))


async def test_every_figure_of_a_terminal_stands_under_its_name() -> None:
    chosen = _card_pipeline()
    (card, _) = await _cards(await _reset_once(chosen), chosen)
    lines = list(text(card, chosen))
    heading = next(line for line in lines if line.startswith("  word "))
    for name in card.metrics:
        end = heading.index(f" {name}") + 1 + len(name)
        shown = [line[:end].split()[-1] for line in lines[lines.index(heading) + 1 :][: len(card.segments)]]
        values = [one.metrics.get(name) for one in card.segments]
        assert shown == ["-" if value is None else f"{value:.4g}" for value in values]
    ahead = "\n".join(text(structs.replace(card, task="forecast"), chosen))
    assert "OBSERVATIONS" in ahead
    assert "labels came within" not in ahead
    assert "labels came within" in "\n".join(lines)


async def test_text_of_others_is_no_markup_and_no_figure() -> None:
    chosen = _card_pipeline()
    cluster = await _reset_once(chosen)
    (before, _) = await _cards(cluster, chosen)
    alert = {
        "output_id": "a", "episode": f"{chosen.name}-0-x", "state": "opened", "kind": "kpi", "severity": "critical",
        "audience": [], "sentence": "<script>alert(1)</script>", "time_ms": NOW_MS, "opened_ms": NOW_MS,
    }  # fmt: skip
    cluster.produce(chosen.topics.alerts, 0, json.dumps(alert).encode(), NOW_MS)
    for topic in (chosen.topics.scores, chosen.topics.outcomes):
        cluster.produce(topic, 0, b'{"output_id":"x","model_version":"7.1","guard":[1],"kind":"joined"}', NOW_MS)
        cluster.produce(topic, 0, b"none of ours", NOW_MS)
    (card, _) = await _cards(cluster, chosen)
    assert (card.metrics, card.served, card.generations) == (before.metrics, before.served, [0, 1])
    assert card.troubles[0].state == "open"
    assert "<script" not in render(card, chosen)


@pytest.mark.parametrize("kept_from", [10, COUNT])
async def test_topics_without_their_beginning_are_said_so(kept_from: int) -> None:
    chosen = _card_pipeline()
    cluster = await _reset_once(chosen)
    assert all(card.whole for card in await _cards(cluster, chosen))
    cluster.delete_before(Place(chosen.topics.scores, 0), kept_from)
    cards = await _cards(cluster, chosen)
    assert not any(card.whole for card in cards)
    assert "The beginning of the topics has been deleted" in render(cards[0], chosen)


FORGED: dict[str, Any] = {
    "output_id": "e-0-1-0", "event_id": 1, "event_time_ms": 5, "guard": "served", "model_version": "7.1",
}  # fmt: skip
EPISODE: dict[str, Any] = {
    "output_id": "a", "episode": "p-0-x", "state": "opened", "kind": "kpi", "severity": "critical", "audience": [],
    "sentence": "s", "time_ms": 5, "opened_ms": 5,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"model_version": "9" * 5_000 + ".1"},
        {"model_version": "\u0663.1"},
        {"output_id": "e-0-" + "9" * 5_000 + "-0"},
        {"output_id": "e-\u0663-1-0"},
    ],
)
def test_a_score_of_no_number_is_none_of_ours(change: dict[str, Any]) -> None:
    cards = Cards(_card_pipeline(), 1, None, whole=True)
    cards.score({**FORGED, **change})
    assert not cards.generations


@pytest.mark.parametrize(
    "change",
    [
        {"episode": "{name}-\u00b2-x"},
        {"episode": "{name}-" + "9" * 5_000 + "-x"},
        {"kind": "model_change", "evidence": {"model_version": "9" * 5_000}},
    ],
)
def test_an_alert_of_no_number_is_no_trouble(change: dict[str, Any]) -> None:
    chosen = _card_pipeline()
    cards = Cards(chosen, 1, None, whole=True)
    cards.score(FORGED)
    named = {name: one.format(name=chosen.name) if isinstance(one, str) else one for name, one in change.items()}
    cards.alert({**EPISODE, **named})
    assert not cards.card(7, "FILE").troubles


@pytest.mark.parametrize(
    "change",
    [
        {"event": "x"},
        {"event": {"features": 3}},
        {"label": "x"},
        {"guard": [1]},
        {"alerts": 1},
        {"alerts": {"metrics": 2}},
    ],
)
async def test_an_epoch_of_another_form_is_passed_over(change: dict[str, Any]) -> None:
    chosen = _card_pipeline()
    cards = Cards(chosen, 1, None, whole=True)
    topic = chosen.topics.events
    cards.score({**FORGED, "output_id": f"{topic}-0-1-0"})
    forged = EpochEntry(
        1, "first", "fresh", {topic: 0}, 0, {**chosen.resolved(), **change}, {"app": "0", "river": "0"}, "a"
    )
    cards.epoch(0, forged)
    assert cards.card(7, "FILE").rules.model == chosen.model


def test_of_very_many_generations_those_that_served_most_are_kept() -> None:
    cards = Cards(_card_pipeline(), 1, None, whole=True)
    for generation in (7, 7, *range(1_000, 1_000 + GENERATIONS_MAX + 50)):
        cards.score({**FORGED, "model_version": f"{generation}.1"})
    assert len(cards.generations) == GENERATIONS_MAX
    assert cards.card(7, "FILE").served.events == 2


@pytest.mark.parametrize(
    "change", [{"guard": "g" * 900_000}, {"tripped": [{"rung": "r" * 900_000}]}], ids=["guard", "rung"]
)
def test_a_score_of_no_guard_of_ours_is_passed_over(change: dict[str, Any]) -> None:
    cards = Cards(_card_pipeline(), 1, None, whole=True)
    cards.score({**FORGED, **change})
    assert not cards.generations


def test_a_flood_of_alerts_is_not_kept() -> None:
    chosen = _card_pipeline()
    cards = Cards(chosen, 1, None, whole=True)
    cards.score(FORGED)
    for number in range(12_000):
        episode, output_id = f"{chosen.name}-0-{number}", f"e-0-{number}-2"
        cards.alert({**EPISODE, "episode": episode, "output_id": output_id, "sentence": "s" * 5_000})
        cards.alert({**EPISODE, "kind": "model_change", "episode": episode, "output_id": output_id})
    assert len(vars(cards)["_episodes"]) <= 10_000
    assert len(vars(cards)["_changes"]) <= 10_000
    assert len(encode(cards.card(7, "FILE"))) < 1_000_000


def test_a_label_a_lifetime_before_its_event_ends_no_card() -> None:
    """The distance did not fit 64 bits."""
    chosen = _card_pipeline()
    cards = Cards(chosen, 1, None, whole=True)
    cards.score(FORGED)
    cards.outcome(
        {
            "output_id": "e-0-1-0", "kind": "joined", "event_id": 1, "event_time_ms": -(2**62),
            "label_time_ms": 2**62, "model_version": "7.1", "prediction": True, "probability": 0.5, "label": True,
        }
    )  # fmt: skip
    assert cards.card(7, "FILE").served.events == 1
