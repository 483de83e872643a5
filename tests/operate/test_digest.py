"""Digests: the same bytes from the same topics, figures as in the fold, nothing of others that could be markup."""

from __future__ import annotations

import re
import shlex
import subprocess
from email import message_from_string
from email.policy import default
from html import unescape
from shutil import which
from time import process_time
from typing import Any

import orjson
import pytest
from msgspec import structs

from driftline.backtest.card import Card
from driftline.backtest.card_count import Cards
from driftline.codec.encode import Encoder
from driftline.codec.journal import EpochEntry, Link
from driftline.core.output import Outcome, Output, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, Label, Source, Tick
from driftline.core.shard.state import Shard
from driftline.core.timestamp import parse_time
from driftline.operate.digest import Gathered
from driftline.operate.digest_page import SECTIONS, Format, page_of, render
from tests.support.folding import step
from tests.support.pipelines import pipeline

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
START_MS = 18_000 * DAY_MS
HOSTILE = "<script>alert(1)</script> *x* [y](http://z) `w`\n# title"
LOSS: dict[str, Any] = {
    "fraud_loss": {"unit": "EUR", "costs": {"false_negative": "amount", "false_positive": 5}, "limit": 60}
}


def lived() -> tuple[Pipeline, Shard, list[Output]]:
    """Three days of a payment every two hours, two thirds of them with a label."""
    chosen = pipeline(kpi=LOSS, decision={"threshold": 1.0}, label={"id": "id", "value": "fraud", "wait": "1d"})
    shard, made = Shard(chosen, 0), list[Output]()
    for number in range(36):
        time_ms = START_MS + number * 2 * HOUR_MS
        source = Source(chosen.topics.events, 0, number, time_ms, None, b"")
        made += step(shard, Event(source, time_ms, time_ms, f"e{number}", (25.0, "FR")))
        if number % 3:
            source = Source(str(chosen.topics.labels), 0, number, time_ms, None, b"")
            made += step(shard, Label(source, time_ms, time_ms + HOUR_MS, f"e{number}", number % 2 == 0))
    return chosen, shard, made + step(shard, Tick(0, 1, START_MS + 5 * DAY_MS))


def gathered(chosen: Pipeline, made: list[Output], since_ms: int, until_ms: int) -> Gathered:
    found, encoder, topics = Gathered(chosen, since_ms, until_ms), Encoder(chosen, 0), chosen.topics
    takers = {topics.scores: found.score, topics.outcomes: found.outcome, topics.alerts: found.alert}
    for one in made:
        message = encoder.encode(one)
        if message.value is not None and message.topic in takers:
            takers[message.topic](orjson.loads(message.value))
    return found


def test_figures_are_those_of_the_fold() -> None:
    chosen, shard, made = lived()
    found = gathered(chosen, made, 0, START_MS + 10 * DAY_MS)
    total = shard.kpis.summary()["fraud_loss"]["total"]
    ours = found.kpis["fraud_loss"]
    assert (found.served, ours.known, ours.expired) == (36, 24, 12)
    assert ours.known_total / 1_000_000 == total["known"]["total"] == 300.0
    assert ours.expired_total / 1_000_000 == pytest.approx(total["expired"]["total"], abs=1e-9)
    assert sum(one for _, one in ours.by_span.values()) == ours.known_total


@pytest.mark.skipif(which("jq") is None, reason="needs jq: apt-get install jq")
def test_the_command_of_a_kpi_gives_its_known_figure() -> None:
    chosen, shard, made = lived()
    command = page_of(gathered(chosen, made, 0, START_MS + 10 * DAY_MS), "p.yaml", "domain_expert").sections[1].command
    messages = [Encoder(chosen, 0).encode(one) for one in made if isinstance(one, Outcome)]
    lines = b"\n".join(message.value or b"" for message in messages)
    program = shlex.split(command.partition(" | ")[2])
    found = subprocess.run(program, input=lines, capture_output=True, check=True, timeout=60)
    assert orjson.loads(found.stdout) == [shard.kpis.summary()["fraud_loss"]["total"]["known"]["total"]]


def corrected() -> tuple[Pipeline, list[Output]]:
    """Labels that come, that come again and say otherwise, and that are assumed."""
    rules = {"id": "id", "value": "fraud", "wait": "1d", "missing": {"assume": False}, "second": "correct"}
    chosen = pipeline(kpi=LOSS, decision={"threshold": 0.5}, label=rules)
    shard, made = Shard(chosen, 0), list[Output]()
    for number in range(12):
        time_ms = START_MS + number * HOUR_MS
        source = Source(chosen.topics.events, 0, number, time_ms, None, b"")
        made += step(shard, Event(source, time_ms, time_ms, f"e{number}", (25.0, "FR")))
        for again in range(number % 3):
            source = Source(str(chosen.topics.labels), 0, 2 * number + again, time_ms, None, b"")
            made += step(shard, Label(source, time_ms, time_ms + again, f"e{number}", bool(again)))
    return chosen, made + step(shard, Tick(0, 1, START_MS + 5 * DAY_MS))


def test_a_model_that_raised_at_a_pair_changes_no_figure() -> None:
    """What the label said of what was served is known all the same."""
    chosen, made = corrected()
    ended = {one.kind for one in made if isinstance(one, Outcome)}
    assert ended == {"joined", "corrected", "assumed"}
    failed = [structs.replace(one, kind="failed") if isinstance(one, Outcome) else one for one in made]
    assert [one.ended for one in failed if isinstance(one, Outcome)] == [
        one.kind for one in made if isinstance(one, Outcome)
    ]
    span = START_MS, START_MS + 5 * DAY_MS
    usual, other = gathered(chosen, made, *span), gathered(chosen, failed, *span)
    assert usual.kpis["fraud_loss"].known == 8
    assert other.kpis == usual.kpis
    assert other.delays_ms == usual.delays_ms
    assert (other.quality.count, other.quality.values()) == (usual.quality.count, usual.quality.values())


def test_the_card_of_a_model_that_raised_at_pairs_is_as_usual() -> None:
    chosen, made = corrected()
    failed = [structs.replace(one, kind="failed") if isinstance(one, Outcome) else one for one in made]
    usual, other = card_of(chosen, made), card_of(chosen, failed)
    assert usual.labels.coverage == pytest.approx(8 / 12)
    assert other.labels.outcomes == {"failed": sum(usual.labels.outcomes.values())}
    assert structs.replace(other, labels=structs.replace(other.labels, outcomes=usual.labels.outcomes)) == usual


def card_of(chosen: Pipeline, made: list[Output]) -> Card:
    cards, encoder = Cards(chosen, 1, None, whole=True), Encoder(chosen, 0)
    for one in sorted(made, key=lambda one: isinstance(one, Outcome)):  # scores come first
        document = orjson.loads(encoder.encode(one).value or b"")
        if isinstance(one, Outcome | Score):
            (cards.outcome if isinstance(one, Outcome) else cards.score)(document)
    return cards.card(0, "FILE")


def test_what_came_after_the_span_is_not_known_in_it() -> None:
    chosen, _, made = lived()
    until_ms = START_MS + DAY_MS
    early = [one for one in made if not isinstance(one, Outcome) or (one.label_time_ms or until_ms) < until_ms]
    first, second = (page_of(gathered(chosen, part, 0, until_ms), "p.yaml", None) for part in (made, early))
    assert render(first, "text") == render(second, "text")
    found = gathered(chosen, made, 0, until_ms)
    assert (found.served, found.kpis["fraud_loss"].known, found.kpis["fraud_loss"].expired) == (12, 8, 0)
    assert "Fraud loss, in addition: 4 events had no label yet at the end of the span." in render(first, "text")
    assert "from 8 events with a label (4 false negatives, 4 true negatives)." in render(first, "text")


@pytest.mark.parametrize("role", SECTIONS)
@pytest.mark.parametrize("form", ["markdown", "html", "slack", "text", "email"])
def test_two_runs_give_the_same_bytes(role: Any, form: Format) -> None:
    chosen, _, made = lived()
    pages = [page_of(gathered(chosen, made, 0, START_MS + 10 * DAY_MS), "p.yaml", role) for _ in range(2)]
    first, second = (render(page, form) for page in pages)
    assert first == second
    assert "300 EUR" in first or role == "data_engineer"
    assert "p.yaml" in first


@pytest.mark.parametrize("form", ["markdown", "html", "slack", "text"])
def test_text_of_others_is_no_markup(form: Format) -> None:
    chosen, _, made = lived()
    found = gathered(chosen, made, 0, START_MS + 10 * DAY_MS)
    found.command(
        {
            "command": "acknowledge",
            "episode": HOSTILE,
            "pipeline": chosen.name,
            "by": HOSTILE,
            "sent_ms": 1,
            "nonce": "a" * 32,
        },
        START_MS,
    )
    found.alert(
        {
            "output_id": "a", "episode": "cards-0-x", "state": "opened", "kind": "kpi", "severity": "critical",
            "audience": ["operations"], "sentence": HOSTILE, "time_ms": START_MS,
        }
    )  # fmt: skip
    text = render(page_of(found, "p.yaml", None), form)
    assert "\n# title" not in text
    assert "<script>" not in text or form == "text"
    if form == "markdown":
        assert "[y](http" not in text
    if form == "slack":
        assert "*x*" not in text


def _alert(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "output_id": f"a{number}", "episode": f"cards-0-{number}", "state": "opened", "kind": "kpi",
        "severity": "critical", "audience": ["operations"], "sentence": "s", "time_ms": START_MS + number, **changes,
    }  # fmt: skip


def test_one_problem_on_several_shards_is_one_decision_with_its_commands() -> None:
    chosen, _, made = lived()
    found = gathered(chosen, made, 0, START_MS + 10 * DAY_MS)
    found.open.clear()
    for shard, signal, severity in (
        (0, "guard:range", "warning"),
        (1, "guard:range", "critical"),
        (0, "loss", "warning"),
    ):
        name = f"{chosen.name}-{shard}-{signal}-e7"
        found.alert(_alert(shard, episode=name, kind="guard", severity=severity, sentence=f"{signal} on {shard}."))
    first, second = (line for line in page_of(found, "deep/p.yaml", "operator").sections[0].lines if line.commands)
    assert first.text == "guard:range on 1. The same on shard 0. Open and not acknowledged."
    assert first.commands == tuple(
        f"driftline control -p deep/p.yaml acknowledge {chosen.name}-{shard}-guard:range-e7" for shard in (1, 0)
    )
    assert second.text == "loss on 0. Open and not acknowledged."


@pytest.mark.parametrize("form", ["markdown", "html", "slack", "text"])
def test_a_command_of_a_digest_runs_nothing_else(form: Format) -> None:
    """Whoever writes to the topics names episodes, and people copy commands into a shell."""
    chosen, _, made = lived()
    found = gathered(chosen, made, 0, START_MS + 10 * DAY_MS)
    found.alert(_alert(7, episode="cards-0-x; touch harmed $(id) 'it' \"is\""))
    text = unescape(render(page_of(found, "p.yaml", None), form))
    (command,) = [line for line in text.replace("<br>", "\n").splitlines() if "harmed" in line]
    plain = re.sub("<[^>]+>", "", command).strip(" $`")
    assert shlex.split(plain)[-2] == "acknowledge", "the name is one word of the command"


@pytest.mark.parametrize("name", ["", "x\n# harmed", "\x1b[2Jharmed", "<script>harmed", "`harmed`", "\u202eharmed"])
@pytest.mark.parametrize("form", ["markdown", "html", "slack", "text"])
def test_a_name_that_could_be_more_than_a_name_stands_in_no_command(form: Format, name: str) -> None:
    """The alert is listed all the same."""
    chosen, _, made = lived()
    found = gathered(chosen, made, 0, START_MS + 10 * DAY_MS)
    found.open.clear()
    found.alert(_alert(7, episode=name, sentence="All went wrong."))
    text = render(page_of(found, "p.yaml", None), form)
    assert "All went wrong." in text
    assert "harmed" not in text
    assert "acknowledge " not in text


LONG = "x" * 500_000
FLOODS: dict[str, Any] = {
    "alerts": lambda found, number: found.alert(_alert(number)),
    "alerts that are over": lambda found, number: found.alert(_alert(number, state="resolved", episode="e")),
    "changes of the model": lambda found, number: found.alert(_alert(number, kind="model_change", state="resolved")),
    "long sentences": lambda found, number: found.alert(_alert(number, sentence=LONG)) if number < 300 else None,
    "long names": lambda found, number: found.alert(_alert(number, episode=LONG, kind=LONG)) if number < 9 else None,
    "kinds of guard": lambda found, number: found.score(_score(guard=f"g{number}")),
    "generations": lambda found, number: found.score(_score(model_version=f"{number}.1")),
    "reasons": lambda found, number: found.reject(f"r{number}", START_MS),
    "decisions": lambda found, number: found.outcome(
        {
            "output_id": "o", "kind": "joined", "event_id": 1, "event_time_ms": START_MS, "label_time_ms": START_MS,
            "kpi": {"fraud_loss": {"decision": f"d{number}", "cost": 1.0}},
        }
    ),
    "commands": lambda found, number: found.command(
        {"command": f"c{number}{LONG[:900]}", "pipeline": "cards", "by": "b", "sent_ms": 1, "nonce": f"{number:032x}"},
        START_MS,
    ),
}  # fmt: skip


def _score(**changes: Any) -> dict[str, Any]:
    return {"event_id": 1, "event_time_ms": START_MS, "guard": "served", "model_version": "0.1", **changes}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_of_others_makes_no_long_digest(what: str) -> None:
    """It was as long as the flood, which is posted to a webhook, and stays due while that refuses it."""
    chosen, _, made = lived()
    found = gathered(chosen, made, 0, START_MS + 10 * DAY_MS)
    begun_s = process_time()
    for number in range(12_000):
        FLOODS[what](found, number)
    text = render(page_of(found, "p.yaml", None), "text")
    assert len(text) < 1_000_000
    assert len(found.alerts) <= 10_000
    assert len(found.open) <= 10_000
    assert process_time() - begun_s < 20


def test_of_many_alerts_the_latest_are_listed_and_the_others_counted() -> None:
    found = Gathered(lived()[0], 0, START_MS + DAY_MS)
    for number in range(12_000):
        found.alert(_alert(number, state="resolved", sentence=f"sentence {number}."))
    text = render(page_of(found, "p.yaml", None), "text")
    assert "sentence 11999." in text
    assert "11,800 earlier alerts are not listed." in text


@pytest.mark.parametrize("form", ["markdown", "html", "slack", "text"])
def test_an_address_in_text_of_others_is_no_link(form: Format) -> None:
    found = Gathered(pipeline(), 0, START_MS)
    found.alert(
        {
            "output_id": "a", "episode": "cards-0-x", "state": "opened", "kind": "kpi", "severity": "critical",
            "audience": ["operations"], "sentence": "See HTTPS://evil.example, www.evil.example, mailto:a@b.example",
            "time_ms": 1,
        }
    )  # fmt: skip
    text = render(page_of(found, "p.yaml", None), form)
    assert "evil" in text
    assert not re.search(r"//evil(?<!\u200b//evil)|www\.evil|mailto:a", text, re.IGNORECASE)
    assert "\u200b" not in "".join(one.command for one in page_of(found, "p.yaml", None).sections)


def test_what_waits_for_a_decision_comes_first() -> None:
    chosen, _, made = lived()
    found = gathered(chosen, made, 0, START_MS + 10 * DAY_MS)
    (broken,) = [one for one in found.open.values() if one.kind == "kpi"]
    found.review({"event_id": "e1", "state": "held", "event_time_ms": START_MS, "deadline_ms": START_MS + DAY_MS})
    decide = page_of(found, "p.yaml", "domain_expert").sections[0]
    assert decide.title == "To decide"
    assert broken.sentence in decide.lines[0].text
    assert (
        decide.lines[1].text
        == "1 prediction is held until a person decides; the first deadline is 2019-04-15 00:00 UTC."
    )
    assert "held" not in str(page_of(gathered(chosen, made, 0, START_MS), "p.yaml", None).sections[0].lines)


def test_a_changed_file_names_who_must_look() -> None:
    chosen, _, made = lived()
    found = gathered(chosen, made, 0, START_MS + 10 * DAY_MS)
    after = pipeline(kpi=LOSS, decision={"threshold": 0.5}, label={"id": "id", "value": "fraud", "wait": "1d"})
    for number, one in enumerate((chosen, after), 1):
        entry = EpochEntry(number, "pipeline", "kept", {}, 0, one.resolved(), {}, "")
        found.entry(0, Link(entry, ""), START_MS + number)
    assert found.changes[1].keys == ("decision.threshold",)
    lines = page_of(found, "p.yaml", "domain_expert").sections[0].lines
    assert "The domain expert should review a change of decision.threshold." in [line.text for line in lines]
    lines = page_of(found, "p.yaml", "operator").sections[0].lines
    assert not [line for line in lines if "must look" in line.text]


@pytest.mark.parametrize("document", [{}, {"event_id": []}, {"event_time_ms": "x", "guard": 1}, {"kpi": 3}])
def test_records_of_others_are_passed_over(document: dict[str, Any]) -> None:
    found = Gathered(pipeline(kpi=LOSS), 0, START_MS)
    for take in (found.score, found.outcome, found.alert, found.review):
        take(document)
    found.command(document, 5)
    assert (found.served, len(found.outcomes), len(found.alerts), len(found.commands)) == (0, 0, 0, 0)


def test_an_email_is_a_message_that_mail_programs_read() -> None:
    chosen, _, made = lived()
    page = page_of(gathered(chosen, made, 0, START_MS + 10 * DAY_MS), "p.yaml", "domain_expert")
    message = message_from_string(render(page, "email"), policy=default)
    assert message["Subject"].startswith("cards: digest for the domain expert, 1970-01-01 00:00 to ")
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content() == render(page, "text")
    assert html.get_content().rstrip("\n") == render(page, "html").rstrip("\n")
    assert render(page, "email").isascii()
    assert max(map(len, render(page, "email").splitlines())) < 200


def test_the_command_of_the_metrics_names_the_span_to_the_millisecond() -> None:
    chosen, _, made = lived()
    page = page_of(gathered(chosen, made, START_MS, START_MS + 7), "p.yaml", "data_scientist")
    words = shlex.split(next(one for one in page.sections if one.title == "Metrics").command)
    times = [parse_time(words[words.index(option) + 1]) for option in ("--from", "--to")]
    assert times == [START_MS, START_MS + 7]
