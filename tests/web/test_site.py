"""The page as a browser, or a stranger, asks for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

import aiohttp
import msgspec
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from driftline.config import Settings
from driftline.web import site as pages
from driftline.web import stream as streams
from driftline.web.curve import Mark
from driftline.web.feed import BoardFeed
from driftline.web.record import Score
from driftline.web.site import FILES, HEADERS, Site
from driftline.web.stream import Stream
from tests.support.boards import NOW_MS, alert, board, note
from tests.support.pipelines import pipeline, settings

SITE = web.AppKey("site", Site)
Client = TestClient[web.Request, web.Application]


class StillFeed(BoardFeed):
    """One that reads no broker; counts who looks."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(pipeline(), settings, clock=lambda: NOW_MS)
        self.board, self.loaded = board(), True
        self.looking = 0

    def be_away(self, since_ms: int) -> None:
        """As when no broker answers."""
        self._away_ms = since_ms

    def enter(self) -> None:
        self.looking += 1

    def leave(self) -> None:
        self.looking -= 1


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> StillFeed:
    monkeypatch.setattr(streams, "TICK_S", 0.01)
    return StillFeed(settings("127.0.0.1:1"))


@pytest.fixture
async def client(feed: StillFeed) -> AsyncIterator[Client]:
    async with _served(feed, settings("127.0.0.1:1")) as made:
        yield made


def _served(feed: StillFeed, settings: Settings) -> Client:
    site = Site(pipeline(), settings, feed)
    app = web.Application()
    app[SITE] = site
    site.add_to(app)
    return TestClient(TestServer(app))


async def frames(answer: aiohttp.ClientResponse, count: int) -> list[tuple[str, dict[str, Any]]]:
    """The next events of a stream."""
    found: list[tuple[str, dict[str, Any]]] = []
    while len(found) < count:
        block = await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 10)
        if block.startswith(b"event: "):
            event, data = block.decode().strip().split("\n")
            found.append((event.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))
    return found


@pytest.mark.parametrize("path", [*FILES, "/runbook", "/api/about", "/api/state"])
async def test_every_answer_keeps_the_page_to_itself(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status == 200
    assert {name: answer.headers[name] for name in HEADERS if name != "Cache-Control"} == {
        name: value for name, value in HEADERS.items() if name != "Cache-Control"
    }
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_so_does_what_is_no_page(client: Client) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("PUT", "/api/action", 405), ("POST", "/", 405)):
        answer = await client.request(method, path)
        assert answer.status == status
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


async def test_the_runbook_is_a_page_of_the_same_rules(client: Client) -> None:
    answer = await client.get("/runbook")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "<style" not in await answer.text(), "its policy allows no style within"
    assert (await client.get("/runbook", headers={"Host": "evil.example"})).status == 403


async def test_a_file_that_a_browser_has_is_not_sent_again(client: Client) -> None:
    tag = (await client.get("/static/page.js")).headers["ETag"]
    assert (await client.get("/static/page.js", headers={"If-None-Match": tag})).status == 304


@pytest.mark.parametrize(
    "path", ["/static/", "/static/../site.py", "/static/%2e%2e/site.py", "/static/uplot", "/api", "/api/action"]
)
async def test_nothing_else_is_served(client: Client, path: str) -> None:
    assert (await client.get(path)).status in (404, 405)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:6066", "127.0.0.1.evil.example", "[::2]:6066", ""),
        *("[::1].evil.example", "127.0.0.1:80@evil.example", "127.0.0.1:evil", "[localhost"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/state", "/api/stream"])
async def test_another_name_for_this_machine_is_refused(client: Client, path: str, host: str) -> None:
    """A page of another origin whose name leads here could read it otherwise."""
    assert (await client.get(path, headers={"Host": host})).status == 403


@pytest.mark.parametrize("host", ["localhost:6066", "LOCALHOST", "127.0.0.1", "[::1]:6066"])
async def test_this_machine_is_not(client: Client, host: str) -> None:
    assert (await client.get("/", headers={"Host": host})).status == 200


async def test_a_worker_for_other_machines_is_asked_by_any_name(feed: StillFeed) -> None:
    open_to_all = settings("127.0.0.1:1").model_copy(update={"web_host": "0.0.0.0"})
    async with _served(feed, open_to_all) as client:
        assert (await client.get("/", headers={"Host": "worker.example"})).status == 200


async def test_a_stream_begins_with_everything_and_goes_on_with_what_changed(client: Client, feed: StillFeed) -> None:
    async with client.get("/api/stream") as answer:
        ((event, everything),) = await frames(answer, 1)
        assert event == "all"
        assert everything["verdict"]["level"] == "good"
        assert len(everything["points"]["rows"]) == 1
        feed.board.take_alert(0, NOW_MS, alert())
        ((event, changed),) = await frames(answer, 1)
        assert event == "change"
        assert set(changed) == {"now_ms", "verdict", "episodes", "marks"}
        feed.board.take_entry(0, NOW_MS, note(watermark_ms=NOW_MS + 1))
        ((event, changed),) = await frames(answer, 1)
        assert len(changed["points"]["rows"]) == 1


async def test_of_marks_only_those_that_are_new_are_sent(client: Client, feed: StillFeed) -> None:
    there = feed.board
    feed.board.marks.extend(Mark("worker", f"A worker joined ({name})", NOW_MS) for name in "abcd")
    async with client.get("/api/stream") as answer:
        ((_, everything),) = await frames(answer, 1)
        shown = everything["marks"]
        for change in (lambda: there.marks.remove(there.marks[1]), there.marks.popleft, lambda: None):
            change()
            there.marks.append(Mark("guard", "The guard acted on 2 predictions", NOW_MS + len(shown)))
            ((_, changed),) = await frames(answer, 1)
            news = changed["marks"]
            assert len(news["more"]) == 1
            shown = [one for start, stop in news["kept"] for one in shown[start:stop]] + news["more"]
            assert shown == [msgspec.to_builtins(mark) for mark in there.marks]


async def test_a_full_worker_writes_to_pages_half_as_often(feed: StillFeed) -> None:
    assert feed.slowness == 1
    feed.board.take_entry(0, NOW_MS, note(full=0.95))
    assert feed.slowness == 2


async def test_many_pages_share_one_reader_and_leave_nothing(client: Client, feed: StillFeed) -> None:
    answers = [await client.get("/api/stream") for _ in range(10)]
    firsts = [await frames(answer, 1) for answer in answers]
    assert all(first == firsts[0] for first in firsts)
    feed.board.take_alert(0, NOW_MS, alert())
    assert all([(await frames(answer, 1))[0][0] == "change" for answer in answers])
    assert feed.looking == 10
    for answer in answers:
        answer.close()
    async with asyncio.timeout(10):
        while feed.looking:
            feed.board.take_entry(0, NOW_MS, note(pending=feed.looking))  # a page that is gone is noticed at a write
            await asyncio.sleep(0.01)


async def test_there_is_room_for_so_many_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGES_MAX", 1)
    async with client.get("/api/stream") as answer:
        await frames(answer, 1)
        assert (await client.get("/api/stream")).status == 503


async def test_a_page_that_missed_something_gets_everything(feed: StillFeed) -> None:
    stream = Stream(feed, pipeline())
    gone_on = stream.frames()
    assert (await anext(gone_on)).startswith(b"event: all")
    for pending in (1, 2):
        feed.board.take_entry(0, NOW_MS, note(pending=pending))
        stream.look()
    assert (await anext(gone_on)).startswith(b"event: all")
    await gone_on.aclose()
    await stream.close()


async def test_a_board_that_began_anew_is_sent_whole(feed: StillFeed) -> None:
    stream = Stream(feed, pipeline())
    reading = stream.frames()
    await anext(reading)
    feed.board = board(metrics={"Accuracy": 0.5})
    stream.look()
    frame = await anext(reading)
    assert frame.startswith(b"event: all")
    assert b"0.5" in frame
    await reading.aclose()
    await stream.close()


async def test_a_page_that_reads_no_more_loses_its_place(feed: StillFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "WRITE_S", 0.1)
    async with _served(feed, settings("127.0.0.1:1")) as client:
        reader, writer = await asyncio.open_connection(client.host, client.port, limit=1_024)
        writer.write(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"event: all")
        async with asyncio.timeout(20):
            number = 0
            while feed.looking:
                number += 1
                for name in range(90):
                    found = alert(f"cards-0-{name}", sentence=f"{number}{'x' * 900}", update=number)
                    feed.board.take_alert(0, NOW_MS, found)
                await asyncio.sleep(0.01)
        writer.close()


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/api/about", "/api/state", "/api/stream"])
async def test_a_page_of_another_site_takes_no_place(client: Client, path: str, where: str) -> None:
    assert (await client.get(path, headers={"Sec-Fetch-Site": where})).status == 403
    assert (await client.get("/", headers={"Sec-Fetch-Site": where})).status == 200, "a link may lead here"


async def test_streams_end_when_the_worker_stops(feed: StillFeed) -> None:
    async with _served(feed, settings("127.0.0.1:1")) as client:
        answer = await client.get("/api/stream")
        await frames(answer, 1)
    assert feed.looking == 0


def test_the_files_ask_no_other_host_and_run_nothing_inline() -> None:
    folder = resources.files("driftline.web") / "static"
    page = (folder / "page.html").read_text("utf-8")
    assert not re.search(r"\son\w+=|<style|style=|javascript:", page)
    assert all('src="/static/' in tag for tag in re.findall(r"<script[^>]*>", page))
    for name in (
        "page.html",
        *(name for name, kind in FILES.values() if kind in ("text/css", "text/javascript") and "/" not in name),
    ):
        text = (folder / name).read_text("utf-8")
        assert not re.search(r"https?://[\w.]+|url\(|@import", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
    assert "MIT License" in (folder / "uplot" / "LICENSE").read_text("utf-8")


def test_the_files_are_in_the_package() -> None:
    folder = resources.files("driftline.web") / "static"
    assert all((folder / name).is_file() for name, _ in FILES.values())


# -- what may be done


TOKEN = "a-token-of-twenty-letters"
ACKNOWLEDGE = {"command": "acknowledge", "episode": "cards-0-loss-e7"}


def with_token(**changes: Any) -> Settings:
    return settings("127.0.0.1:1").model_copy(update={"web_token": TOKEN, **changes})


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, feed: StillFeed) -> list[Any]:
    """The actions that were carried out."""
    monkeypatch.setattr(pages, "WRONG_TOKEN_S", 0.0)
    found: list[Any] = []

    async def carry_out(document: Any, *_: Any) -> tuple[bool, str]:
        found.append(document)
        return True, "done"

    monkeypatch.setattr(pages, "carry_out", carry_out)
    return found


async def test_with_the_token_actions_are_carried_out(feed: StillFeed, given: list[Any]) -> None:
    async with _served(feed, with_token()) as client:
        assert (await (await client.get("/api/about")).json())["actions"] is True
        answer = await client.post("/api/action", json=ACKNOWLEDGE, headers=bearer())
        assert (answer.status, await answer.json()) == (200, {"text": "done"})
        assert given == [ACKNOWLEDGE]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer(""), 401),
        (bearer(TOKEN[:-1]), 401),
        (bearer(f"{TOKEN}x"), 401),
        (bearer("\N{SNOWMAN}"), 401),
        ({"Authorization": TOKEN + "x"}, 401),
        ({**bearer(), "Origin": "http://evil.example"}, 403),
        ({**bearer(), "Origin": "null"}, 403),
        ({**bearer(), "Origin": "http://["}, 403),
        ({**bearer(), "Sec-Fetch-Site": "cross-site"}, 403),
        ({**bearer(), "Host": "evil.example"}, 403),
        ({**bearer(), "Content-Type": "text/plain"}, 415),
    ],
)
async def test_nothing_is_done_otherwise(
    feed: StillFeed, given: list[Any], headers: dict[str, str], status: int
) -> None:
    async with _served(feed, with_token()) as client:
        sent = {"Content-Type": "application/json", **headers}
        answer = await client.post("/api/action", data=orjson.dumps(ACKNOWLEDGE), headers=sent)
        assert answer.status == status
        assert not given
        assert TOKEN not in await answer.text()


async def test_without_a_token_there_are_no_actions(client: Client, given: list[Any]) -> None:
    assert (await (await client.get("/api/about")).json())["actions"] is False
    for headers in ({}, bearer(""), bearer("None")):
        assert (await client.post("/api/action", json=ACKNOWLEDGE, headers=headers)).status == 403
    assert not given


async def test_actions_only_by_post(feed: StillFeed, given: list[Any]) -> None:
    async with _served(feed, with_token()) as client:
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            assert (await client.request(method, "/api/action", headers=bearer())).status == 405
    assert not given


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"1", b'{"a":"' + b"a" * pages.BODY_MAX + b'"}'])
async def test_what_is_no_action_is_refused(feed: StillFeed, given: list[Any], body: bytes) -> None:
    async with _served(feed, with_token()) as client:
        sent = {"Content-Type": "application/json", **bearer()}
        assert (await client.post("/api/action", data=body, headers=sent)).status == 409
    assert not given


@pytest.mark.parametrize("path", [*FILES, "/api/about", "/api/state", "/api/stream"])
async def test_the_secrets_are_on_no_page(feed: StillFeed, path: str) -> None:
    secrets = {"snapshot_key": "a-key-of-this-deployment", "sasl_password": "a-password-of-ours"}
    async with _served(feed, with_token(**secrets)) as client:
        answer = await client.get(path)
        content = await (answer.content.readuntil(b"\n\n") if path == "/api/stream" else answer.read())
        answer.close()
    for secret in (TOKEN, *secrets.values()):
        assert secret.encode() not in content


async def test_behind_a_proxy_its_name_and_origin_are_known(feed: StillFeed, given: list[Any]) -> None:
    behind = with_token(web_url="https://ml.example")
    async with _served(feed, behind) as client:
        sent = {**bearer(), "Host": "ml.example", "Origin": "https://ml.example"}
        assert (await client.post("/api/action", json=ACKNOWLEDGE, headers=sent)).status == 200
        del sent["Authorization"]
        assert (await client.post("/api/explain", json={"event_id": "a"}, headers=sent)).status == 401


async def test_a_score_is_explained_by_the_id_of_its_event(
    client: Client, feed: StillFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def explain(event_id: str) -> str:
        asked.append(event_id)
        return "because"

    monkeypatch.setattr(client.app[SITE].explainer, "explain", explain)
    feed.board.take_score(Score("events-0-7-0", 2**60, NOW_MS, "served"))
    for body in ({"output_id": "events-0-7-0"}, {"event_id": "-h"}):
        answer = await client.post("/api/explain", json=body)
        assert (answer.status, await answer.json()) == (200, {"text": "because"})
    assert asked == [str(2**60), "-h"]
    for wrong in ({}, {"event_id": 7}, {"event_id": ""}, {"event_id": "a\0"}, {"event_id": "a" * 5_000}):
        assert (await client.post("/api/explain", json=wrong)).status == 409
