"""Digests on a schedule: one a period, whoever sends them and however often that changes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from driftline.config import Settings
from driftline.core.error import InputFileError, PipelineError
from driftline.core.pipeline.digest import MONDAY_MS, WEEK_MS, DigestForm
from driftline.core.timestamp import parse_time
from driftline.devbroker.embedded import EmbeddedNode
from driftline.kafka.client import client_options, keeper
from driftline.kafka.topic import create
from driftline.operate import schedule
from driftline.operate.apart import output_of, sweep
from driftline.operate.metric import NotifyCollector
from driftline.operate.schedule import LATE_MS, MISSED_MAX, Sender, over_at, unfit
from driftline.operate.webhook import Webhook
from tests.support.pipelines import pipeline, settings
from tests.support.receiver import Post, Receiver

DAY_MS = 86_400_000
START_MS = 19_000 * DAY_MS
DAILY = DigestForm.model_validate({"every": "1d", "to": "team"})


class Note:
    """A keeper's note, where this member is the one."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.held = True

    async def holds(self) -> bool:
        return self.held

    async def read(self) -> str | None:
        return self.text

    async def write(self, note: str) -> None:
        self.text = note


async def _named(*words: Any, **_: Any) -> bytes:
    """A digest that names its end."""
    return f"digest to {words[2][words[2].index('--until') + 1]}".encode()


async def _sent(
    hook: Receiver,
    note: Any,
    days: list[float],
    monkeypatch: pytest.MonkeyPatch,
    form: str = "json",
    made: Any = _named,
) -> dict[str, int]:
    """Looks until nothing is due any more, with the shards at these days; returns the results by their names."""
    monkeypatch.setattr(schedule, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(schedule, "AGAIN_S", 0.01)
    monkeypatch.setattr(schedule, "output_of", made)
    webhook = Webhook.model_validate({"form": form, "url": hook.url, "backoff": "1ms", "give_up": "1ms"})
    sender = Sender(pipeline(), settings("localhost:1"), "daily", DAILY, webhook)
    assert metrics_of(sender) == {"up": 0.0}
    looks, done = iter(range(4)), asyncio.Event()

    async def times() -> list[int]:
        if next(looks, None) is None:
            done.set()
        return [int(START_MS + day * DAY_MS) for day in days]

    task = asyncio.create_task(sender.keep(note, times))
    try:
        await done.wait()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    shown = metrics_of(sender)
    assert shown.pop("up") == 1.0
    assert ("last_sent_timestamp_seconds" in shown) == bool(sender.results["delivered"])
    return dict(sender.results)


def metrics_of(sender: Sender) -> dict[str, float]:
    """What `/metrics` says of its schedule, without what is counted."""
    families = NotifyCollector(list, lambda: [sender]).collect()
    found = {sample.name: sample.value for family in families for sample in family.samples}
    prefix = "driftline_digest_"
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


async def test_each_period_is_sent_once_across_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Note()
    async with Receiver() as hook:
        await _sent(hook, note, [0.5], monkeypatch)
        assert hook.posts == [], "what was before the schedule is not sent"
        await _sent(hook, note, [1.1], monkeypatch)
        await _sent(hook, note, [1.9], monkeypatch)
        assert [post.document["until_ms"] for post in hook.posts] == [START_MS + DAY_MS]
        await _sent(hook, note, [4.5], monkeypatch)
        assert [(post.document["until_ms"] - START_MS) // DAY_MS for post in hook.posts] == [1, 2, 3, 4]
        assert len({post.key for post in hook.posts}) == 4
        assert hook.posts[0].key == f"cards:digest:daily:{START_MS + DAY_MS}"
        assert hook.posts[0].document["text"] == "digest to 2022-01-09T00:00:00.000Z"


async def test_what_is_not_accepted_stays_due_and_keeps_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Note()
    note.text = str(START_MS)
    answers = iter([503, 400, 503])

    def answer(_: Post) -> int:
        return next(answers, 200)

    async with Receiver(answer) as hook:
        await _sent(hook, note, [2.5], monkeypatch, form="slack")
        assert len({post.key for post in hook.posts[:4]}) == 1
        assert [post.document["text"] for post in hook.taken] == [
            "digest to 2022-01-09T00:00:00.000Z",
            "digest to 2022-01-10T00:00:00.000Z",
        ]
    assert note.text == str(START_MS + 2 * DAY_MS)


async def test_after_a_leap_of_time_the_last_periods_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Note()
    note.text = "0"  # 1970
    async with Receiver() as hook:
        await _sent(hook, note, [0.5], monkeypatch)
        ends = [(post.document["until_ms"] - START_MS) // DAY_MS for post in hook.posts]
    assert ends == list(range(1 - MISSED_MAX, 1))


async def test_another_member_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Note()
    note.text, note.held = str(START_MS), False
    async with Receiver() as hook:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await _sent(hook, note, [2.5], monkeypatch)
        assert hook.posts == []


def test_periods_are_over_when_all_shards_are_there_or_one_waits_in_vain() -> None:
    assert over_at([START_MS, START_MS + 5]) == START_MS
    assert over_at([START_MS, START_MS + DAY_MS]) == START_MS + DAY_MS - LATE_MS


def test_weeks_begin_on_mondays_and_days_at_midnight() -> None:
    weekly = DigestForm.model_validate({"to": "team"})
    monday = parse_time("2026-11-30T00:00:00Z")
    assert (monday - MONDAY_MS) % WEEK_MS == 0
    assert weekly.ended_ms(monday) == weekly.ended_ms(monday + WEEK_MS - 1) == monday
    assert DAILY.ended_ms(monday + DAY_MS - 1) == monday


def test_where_a_digest_cannot_go() -> None:
    alertmanager = Webhook.model_validate({"form": "alertmanager", "url": "http://localhost:1"})
    assert "no webhook 'team' here" in (unfit(DAILY, None) or "")
    assert "takes alerts only" in (unfit(DAILY, alertmanager) or "")
    assert unfit(DAILY, Webhook.model_validate({"form": "slack", "url": "http://localhost:1"})) is None


@pytest.mark.parametrize(
    "digests", [{"a b": {"to": "x"}}, {"a": {"to": "x", "every": "1m"}}, {"a": {}}, {"a": {"to": "X!"}}]
)
def test_a_schedule_that_cannot_be_is_refused(digests: dict[str, Any]) -> None:
    with pytest.raises(PipelineError):
        pipeline(digests=digests)


async def test_one_member_keeps_the_note_and_the_next_one_finds_it(embedded: EmbeddedNode) -> None:
    chosen, at = pipeline(), settings(embedded.bootstrap)
    await create(chosen, at, partitions=1)
    options, place = client_options(at), (chosen.topics.alerts, "cards.digest.daily")
    async with keeper(options, *place, poll_interval_max_ms=60_000) as first:
        while not await first.holds():
            pass
        assert await first.read() in (None, "")
        await first.write("17")
    async with keeper(options, *place, poll_interval_max_ms=60_000) as second:
        while not await second.holds():
            pass
        assert await second.read() == "17"


async def test_a_command_apart_knows_the_pipeline_by_its_name(tmp_path: Path) -> None:
    at: Settings = settings("localhost:1").model_copy(update={"data_dir": tmp_path})
    program = ("python3", "-c", "import sys; print(*sys.argv[1:4]); sys.exit(sys.argv[-1] == 'no')")
    out = (await output_of(pipeline(), at, ["digest", "x"], 60, program=program)).decode()
    assert out.split()[0] == "digest"
    assert out.strip().endswith("/cards.yaml")
    with pytest.raises(InputFileError, match="failed without a word"):
        await output_of(pipeline(), at, ["digest", "no"], 60, program=program)
    assert list((tmp_path / "apart").iterdir()) == []


async def test_a_command_apart_cannot_fill_the_workers_memory(tmp_path: Path) -> None:
    """As a digest of topics into which someone wrote very long texts."""
    at: Settings = settings("localhost:1").model_copy(update={"data_dir": tmp_path})
    flood = "import sys; [sys.stdout.write('x' * 1_000_000) for _ in range(40)]"
    with pytest.raises(InputFileError, match="more than 16 MiB"):
        await output_of(pipeline(), at, ["digest", "x"], 60, program=("python3", "-c", flood))


async def test_two_commands_apart_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """As two digests of one schedule file, whose periods end together."""
    at: Settings = settings("localhost:1").model_copy(update={"data_dir": tmp_path})
    slow = (
        "import pathlib, sys, time; sys.argv[-1] == 'slow' and time.sleep(1); print(pathlib.Path(sys.argv[3]).stat())"
    )
    program = ("python3", "-c", slow)
    made = [output_of(pipeline(), at, ["digest", pace], 60, program=program) for pace in ("slow", "fast")]
    assert all(b"st_mode" in out for out in await asyncio.gather(*made))
    assert list((tmp_path / "apart").iterdir()) == []


async def test_a_digest_that_cannot_be_made_is_counted_and_stays_due(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter([InputFileError("the topic is gone")])

    async def output(*words: Any, **_: Any) -> bytes:
        if (error := next(made, None)) is not None:
            raise error
        return b"a digest"

    note = Note()
    note.text = str(START_MS)
    async with Receiver() as hook:
        results = await _sent(hook, note, [1.5], monkeypatch, made=output)
        assert [post.document["text"] for post in hook.posts] == ["a digest"]
    assert results == {"failed": 1, "delivered": 1}


async def test_a_broker_that_fails_in_the_middle_does_not_end_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, done = 0, asyncio.Event()

    @asynccontextmanager
    async def there(*_: Any, **__: Any) -> AsyncIterator[Note]:
        yield Note()

    async def counts(_: Any) -> dict[str, int]:
        nonlocal asked
        asked += 1
        if asked == 3:
            done.set()
        raise KafkaConnectionError("no connection to node 1")

    for name, fake in (("keeper", there), ("admin", there), ("partition_counts", counts), ("LOOK_EVERY_S", 0.01)):
        monkeypatch.setattr(schedule, name, fake)
    webhook = Webhook.model_validate({"form": "json", "url": "http://localhost:1"})
    sender = Sender(pipeline(), settings("localhost:1"), "daily", DAILY, webhook)
    sender.running = True
    task = asyncio.create_task(sender.run())
    async with asyncio.timeout(30):
        await asyncio.wait([task, asyncio.ensure_future(done.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not task.done()
    assert metrics_of(sender) == {"up": 0.0}
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_worker_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    at = settings("localhost:1").model_copy(update={"data_dir": tmp_path})
    above = tmp_path / "apart"
    assert sweep(at) == 0, "nothing ever ran"
    child = "import os, time\nwhile os.getppid() == OWNER: time.sleep(0.01)"  # who may die before it begins
    owner = (
        "import asyncio, os, pathlib, sys; from tests.support.pipelines import pipeline, settings; "
        "from driftline.operate.apart import output_of; "
        f"at = settings('localhost:1').model_copy(update={{'data_dir': pathlib.Path({str(tmp_path)!r})}}); "
        f"child = {child!r}.replace('OWNER', str(os.getpid())); "
        "asyncio.run(output_of(pipeline(), at, ['digest'], 60, program=(sys.executable, '-c', child)))"
    )
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", owner)
    async with asyncio.timeout(60):
        while not list(above.glob("*/*.yaml")):  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.01)
    assert sweep(at) == 0, "its worker lives"
    killed.kill()
    await killed.wait()
    assert sweep(at) == 1
    assert list(above.iterdir()) == []
