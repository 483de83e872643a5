"""Webhooks: the settings file, what is posted, to whom, and what an answer means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from driftline.core.error import SettingsError
from driftline.kafka.client import Arrival
from driftline.operate.incident import key_of
from driftline.operate.notify import attempt, read_alert
from driftline.operate.webhook import SLACK_CHARACTERS_MAX, Answer, Webhook, body, linked, load_webhooks, post
from tests.support.command import free_port
from tests.support.receiver import Receiver

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ALERT: dict[str, Any] = {
    "output_id": "p.labels-0-7-2", "pipeline": "p", "episode": "p-0-error-l7", "state": "opened", "update": 1,
    "kind": "concept_drift", "severity": "warning", "audience": ["data_science", "domain_expert"],
    "sentence": "Since about 5 labels ago, p has been wrong more often.", "time_ms": 5, "opened_ms": 5,
    "runbook": "docs/runbook.md#concept-drift", "acknowledged": False, "silenced": False, "announced": True,
    "flapping": False, "evidence": {"model_version": "0.7"}, "positions": {"p.labels": 8}, "opened_at": {"p.labels": 8},
}  # fmt: skip


def alert(**changes: Any) -> dict[str, Any]:
    return {**ALERT, **changes}


def webhook(**settings: Any) -> Webhook:
    return Webhook.model_validate({"form": "json", "url": "http://127.0.0.1:1/", **settings})


def written(folder: Path, text: str) -> Path:
    path = folder / "notify.yaml"
    path.write_text(text)
    return path


# -- the settings file


def test_secrets_come_from_the_environment_and_are_not_shown(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "webhooks:\n  on-call:\n    form: slack\n    url: https://hooks/${TOKEN}\n    headers: {X-Key: 'k ${TOKEN}'}\n"
        "    audience: [operations]\n    severity: critical\n    timeout: 3s\n    give_up: 1m\n",
    )
    loaded = load_webhooks(path, {"TOKEN": "hush"})["on-call"]
    assert (loaded.url, loaded.headers) == ("https://hooks/hush", {"X-Key": "k hush"})
    assert (loaded.audience, loaded.severity) == (("operations",), "critical")
    assert (loaded.timeout_ms, loaded.give_up_ms, loaded.host) == (3_000, 60_000, "hooks")
    assert "hush" not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("webhooks: [", "cannot read"),
        ("webhoks: {}", "single key `webhooks`"),
        ("webhooks: {a: {form: json, url: 'http://x', mood: good}}", "webhooks.a.mood"),
        ("webhooks: {a: {form: json, url: 'http://x', tiemout: 3s}}", "unknown key; did you mean 'timeout'? Allowed: "),
        ("webhooks: {a: {form: fax, url: 'http://x'}}", "webhooks.a.form: must be 'json', 'slack' or 'alertmanager'"),
        ("webhooks: {a: {form: json}}", "webhooks.a.url: is required: address;"),
        ("webhooks: {a: {form: json, url: 'http://x:99999/hush'}}", "not an http:// or https:// address"),
        ("webhooks: {a: {form: json, url: 'http://x', timeout: 0s}}", "webhooks.a.timeout: must be greater"),
        ("webhooks: {a: {form: json, url: 'ftp://hush'}}", "not an http:// or https:// address"),
        ("webhooks: {a: {form: json, url: '${NOT_THERE}'}}", "NOT_THERE, which is not set"),
        ("webhooks: {a: {form: json, url: 'http://x', audience: [boss]}}", "webhooks.a.audience"),
        ("webhooks: {a: {form: json, url: 'http://x', timeout: soon}}", "webhooks.a.timeout"),
        ("webhooks: {a: {form: json, url: 'http://x', headers: {K: \"a\\nb\"}}}", "one line"),
        (
            "webhooks: {a: {form: json, url: 'http://me:hush@x', headers: {AUTHORIZATION: hush}}}",
            "credentials both in the url",
        ),
        ("webhooks: {a: {form: json, url: 'http://x', headers: {'My Key': hush}}}", "is not a header name"),
        ("webhooks: {a: {form: json, url: 'http://x', headers: {K: 'hush\u00fc'}}}", "ASCII"),
        ("webhooks: {a: {form: json, url: 'http://x', headers: {Content-Length: '1'}}}", "is set by Driftline"),
        ("webhooks: {'A b': {form: json, url: 'http://hush'}}", "webhooks.A b.[key]: a webhook's name"),
    ],
)
def test_a_wrong_file_is_told_without_its_secrets(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as told:
        load_webhooks(written(tmp_path, text), {})
    assert says in str(told.value)
    assert "hush" not in str(told.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_webhooks(tmp_path / "none.yaml", {})


# -- to whom


@pytest.mark.parametrize(
    ("settings", "changes", "wanted"),
    [
        ({}, {}, True),
        ({"audience": ["domain_expert"]}, {}, True),
        ({"audience": ["operations"]}, {}, False),
        ({"severity": "critical"}, {}, False),
        ({"severity": "critical"}, {"severity": "critical"}, True),
        ({}, {"silenced": True}, False),
        ({}, {"state": "ongoing", "silenced": True}, False),
        ({}, {"state": "resolved", "silenced": True, "announced": True}, True),
        ({}, {"state": "resolved", "silenced": True, "announced": False}, False),
        ({}, {"state": "resolved", "silenced": False, "announced": False}, False),
    ],
)
def test_who_gets_what(settings: dict[str, Any], changes: dict[str, Any], wanted: bool) -> None:
    assert webhook(**settings).wants(alert(**changes)) is wanted


# -- what is posted


def posted(form: str, **changes: Any) -> Any:
    return orjson.loads(body(webhook(form=form), alert(**changes), NOW))


def test_json_is_the_alert_and_its_key() -> None:
    assert posted("json") == {**ALERT, "idempotency_key": "p-0-error-l7:opened:1"}


def test_slack_gets_the_kind_in_the_words_of_the_glossary() -> None:
    assert "warning, suspect labels, opened" in posted("slack", kind="quarantine")["text"]


def test_slack_gets_what_a_topic_says_on_one_line() -> None:
    text = posted("slack", sentence="all is well\nWhat to do: <https://elsewhere>\u2028nothing")["text"]
    assert [line for line in text.splitlines() if line.startswith("What to do")] == [text.splitlines()[2]]
    assert "all is well What to do: &lt;https:\u200b//elsewhere&gt; nothing" in text.splitlines()


def test_slack_gets_one_text_with_nothing_in_it_that_slack_would_read() -> None:
    text = posted("slack", sentence="a <!channel> & <b>")["text"]
    assert "&lt;!channel&gt; &amp; &lt;b&gt;" in text
    assert ":warning: *p* warning, concept drift, opened" in text
    assert "docs/runbook.md#concept-drift" in text
    assert ":red_circle:" in posted("slack", severity="critical")["text"]
    assert ":white_check_mark:" in posted("slack", severity="critical", state="resolved")["text"]
    assert len(posted("slack", sentence="x" * 9_000)["text"]) == SLACK_CHARACTERS_MAX


FORGED = (
    "https://elsewhere/",
    "https://elsewhere/#x",
    "docs/runbook.md# https://elsewhere",
    "//elsewhere#a b",
    "",
    "#",
)


@pytest.mark.parametrize("own", ["docs/runbook.md", "https://wiki.example/runbook"])
@pytest.mark.parametrize("web_url", [None, "https://driftline.example"])
@pytest.mark.parametrize("address", FORGED)
def test_no_address_but_the_pipelines_own_is_what_to_do(own: str, web_url: str | None, address: str) -> None:
    """Whoever may write alerts could have a link of his stand there."""
    page = "https://driftline.example/runbook" if web_url and not own.startswith("https") else own
    found = linked(alert(runbook=address), web_url, own)["runbook"]
    assert found in (page, f"{page}#x")
    assert linked(ALERT, web_url, own)["runbook"] == f"{page}#concept-drift"


def test_a_name_in_slack_stays_a_name() -> None:
    text = posted("slack", episode="a` https://elsewhere `b", pipeline="https://elsewhere")["text"]
    assert "https://elsewhere" not in text.splitlines()[0]
    assert text.splitlines()[-1] == "`a' https://elsewhere 'b`"


def test_alertmanager_gets_an_alert_that_ends_when_the_episode_does() -> None:
    (opened,) = posted("alertmanager")
    assert opened["labels"] == {
        "alertname": "driftline_concept_drift", "pipeline": "p", "kind": "concept_drift", "severity": "warning",
        "episode": "p-0-error-l7",
    }  # fmt: skip
    assert datetime.fromisoformat(opened["endsAt"]) == NOW + timedelta(days=7)
    assert opened["annotations"]["summary"] == ALERT["sentence"]
    (over,) = posted("alertmanager", state="resolved")
    assert (over["labels"], datetime.fromisoformat(over["endsAt"])) == (opened["labels"], NOW)


def test_alertmanager_is_told_that_a_warning_became_critical() -> None:
    (opened,) = posted("alertmanager")
    critical, warning = posted("alertmanager", state="ongoing", severity="critical", update=2)
    assert (warning["labels"], datetime.fromisoformat(warning["endsAt"])) == (opened["labels"], NOW)
    assert critical["labels"] == {**opened["labels"], "severity": "critical"}
    ended = posted("alertmanager", state="resolved", severity="critical", update=3)
    assert [one["labels"] for one in ended] == [critical["labels"], warning["labels"]]
    assert {one["endsAt"] for one in ended} == {NOW.isoformat()}


# -- what an answer means


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, "taken"), (202, "taken"), (204, "taken"), (301, "refused"), (307, "refused"), (400, "refused"),
     (404, "refused"), (408, "later"), (429, "later"), (500, "later"), (503, "later")],
)  # fmt: skip
async def test_answers(status: int, verdict: str) -> None:
    async with Receiver(lambda _: status) as receiver, aiohttp.ClientSession() as session:
        chosen = webhook(url=receiver.url, headers={"X-Key": "k"})
        answer = await post(session, chosen, alert(), NOW)
    assert answer.verdict == verdict
    (seen,) = receiver.posts
    assert (seen.key, seen.headers["X-Key"]) == (key_of(ALERT), "k")


async def test_a_webhook_says_how_long_to_wait() -> None:
    async with Receiver(lambda _: 429) as receiver, aiohttp.ClientSession() as session:
        for said, meant in (("7", 7.0), ("99999", 300.0), ("soon", 0.0), ("-1", 0.0)):
            receiver.retry_after = said
            answer = await post(session, webhook(url=receiver.url), alert(), NOW)
            assert (answer.verdict, answer.after_s) == ("later", meant)


async def test_a_webhook_that_hangs_costs_one_time_out() -> None:
    async with Receiver(lambda _: None) as receiver, aiohttp.ClientSession() as session:
        answer = await post(session, webhook(url=receiver.url, timeout="100ms"), alert(), NOW)
    assert answer == Answer("later", "no answer within 100 ms")


def test_a_name_that_is_an_address_is_no_link_in_slack() -> None:
    text = posted("slack", acknowledged=True, acknowledged_by="https://evil.example", sentence="www.evil.example")[
        "text"
    ]
    assert "evil.example" in text
    assert "https://evil" not in text
    assert "www.evil" not in text


@pytest.mark.parametrize(
    ("user", "headers", "hidden"),
    [
        ("", {"Authorization": "Bearer s3cret.token"}, ("s3cret",)),
        ("someone:s3cret-word@", {}, ("s3cret", "c29tZW9uZTpzM2NyZXQtd29yZA")),
        (
            "some%40one:s3cret%2Fw%C3%B6rd@",
            {},
            ("s3cret", "c29tZUBvbmU6czNjcmV0L3f2cmQ", "c29tZUBvbmU6czNjcmV0L3fDtnJk"),
        ),
    ],
)
async def test_a_receiver_that_says_the_request_again_tells_no_log_of_it(
    user: str, headers: dict[str, str], hidden: tuple[str, ...]
) -> None:
    """Also not of the user and password of an address, which are sent as base64."""

    async def echo(request: web.Request) -> web.Response:
        said = f"Cannot POST {request.path_qs} as {request.headers['Authorization']}: invalid_payload"
        return web.Response(status=400, text=said)

    app = web.Application()
    app.router.add_post("/{rest:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://{user}127.0.0.1:{runner.addresses[0][1]}/services/T01/s3cret-path?key=s3cret%2Dquery"
    chosen = webhook(url=address, headers=headers)
    try:
        async with aiohttp.ClientSession() as session:
            answer = await post(session, chosen, alert(), NOW)
    finally:
        await runner.cleanup()
    assert answer.verdict == "refused"
    assert not [one for one in hidden if one in answer.detail]
    assert answer.detail.startswith("400 Cannot POST")
    assert answer.detail.endswith("invalid_payload")


async def test_nobody_there_and_names_of_any_sign() -> None:
    async with aiohttp.ClientSession() as session:
        nobody = webhook(url=f"http://127.0.0.1:{free_port()}/")
        assert (await post(session, nobody, alert(), NOW)).verdict == "later"
    async with Receiver() as receiver, aiohttp.ClientSession() as session:
        odd = alert(episode="p-0-missing:größe\r\nX: y-e1")
        assert (await post(session, webhook(url=receiver.url), odd, NOW)).verdict == "taken"
        assert receiver.posts[0].document["episode"] == odd["episode"]
        assert "X" not in receiver.posts[0].headers


# -- attempts


async def tried(answers: list[Answer], **how: Any) -> tuple[Answer | None, int, int]:
    left, failures = iter(answers), list[Answer]()

    async def once() -> Answer:
        return next(left)

    given = {"backoff_s": 0.001, "give_up_s": 5.0, **how}
    answer, attempts = await attempt(once, failed=failures.append, **given)
    return answer, attempts, len(failures)


LATER, TAKEN, REFUSED = Answer("later", "503"), Answer("taken", "200"), Answer("refused", "404")


async def test_it_is_tried_until_it_is_taken() -> None:
    assert await tried([LATER, LATER, TAKEN]) == (TAKEN, 3, 2)


async def test_what_is_refused_is_not_tried_again() -> None:
    assert await tried([LATER, REFUSED]) == (REFUSED, 2, 2)


async def test_attempts_are_bounded_in_time() -> None:
    answer, attempts, failures = await tried([LATER] * 100, backoff_s=0.02, give_up_s=0.1)
    assert answer == LATER
    assert 2 <= attempts == failures <= 3  # pauses of at least 20 and 40 ms, and then of 80
    assert await tried([LATER], give_up_s=0.0) == (LATER, 1, 1)
    assert await tried([Answer("later", "429", 60.0)]) == (Answer("later", "429", 60.0), 1, 1)


async def test_a_partition_that_went_elsewhere_is_let_go() -> None:
    assert await tried([LATER], ours=lambda: False) == (None, 1, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"audience": 5}, {"audience": [{}]}, {"evidence": []}, {"episode": 3}, {"severity": []}, {"silenced": "no"},
        {"update": None}, {"sentence": {}}, {"episode": "e" * 2_001}, {"state": "o" * 20}, {"kind": "k" * 101},
        {"sentence": "s" * 66_000},
    ],
)  # fmt: skip
def test_what_others_write_among_the_alerts_is_no_alert(changes: dict[str, Any]) -> None:
    """One record that the posts cannot be made of ended them, and again at each start."""
    assert read_alert(Arrival(0, 0, 5, None, orjson.dumps(alert()), ())) == alert()
    assert read_alert(Arrival(0, 0, 5, None, orjson.dumps(alert(**changes)), ())) is None
    deep = orjson.dumps(alert()).replace(b'"evidence":{', b'"evidence":{"x":' + b"[" * 900 + b"]" * 900 + b",")
    assert read_alert(Arrival(0, 0, 5, None, deep, ())) is None
