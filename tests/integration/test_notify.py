"""Notifiers on a broker: each webhook gets what is its, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from driftline.core.pipeline import Pipeline
from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.client import client_options, keeper, producer
from driftline.kafka.topic import create, create_undelivered
from driftline.kafka.topic_rule import undelivered_topic
from driftline.operate.metric import NotifyCollector
from driftline.operate.notify import Notifier
from driftline.operate.webhook import Webhook
from tests.operate.test_webhook import alert
from tests.support.receiver import Receiver
from tests.support.small import small
from tests.support.stream import read, settings_of

WITHIN_S = 60.0
Node: TypeAlias = KafkaNode | EmbeddedNode


def messages(name: str, count: int, **changes: Any) -> list[dict[str, Any]]:
    return [alert(pipeline=name, episode=f"{name}-0-error-l{number}", **changes) for number in range(count)]


def pipeline(name: str, **sections: Any) -> Pipeline:
    return small(pipeline=name, **sections)


async def prepared(kafka: Node, chosen: Pipeline) -> None:
    await create(chosen, settings_of(kafka.bootstrap), partitions=1, shards=1)
    await create_undelivered(chosen, settings_of(kafka.bootstrap))


async def publish(kafka: Node, chosen: Pipeline, values: Sequence[object]) -> None:
    async with producer(client_options(settings_of(kafka.bootstrap)), acks="all") as sender:
        for value in values:
            content = value if isinstance(value, bytes) else orjson.dumps(value)
            await sender.send_and_wait(chosen.topics.alerts, content, key=b"k", partition=0)


@asynccontextmanager
async def notifying(kafka: Node, chosen: Pipeline, **webhooks: dict[str, Any]) -> AsyncIterator[list[Notifier]]:
    made = [
        Notifier(
            chosen,
            settings_of(kafka.bootstrap),
            name,
            Webhook.model_validate({"form": "json", "backoff": "50ms", "give_up": "2s", "timeout": "500ms", **webhook}),
        )
        for name, webhook in webhooks.items()
    ]
    tasks = [asyncio.create_task(notifier.run()) for notifier in made]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(holds: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(WITHIN_S):
            while not holds():  # noqa: ASYNC110 - counters tell nobody that they have changed
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {WITHIN_S:g} s: {what}") from None


async def test_each_gets_its_own_in_order_and_one_that_hangs_holds_nobody_up(kafka: KafkaNode) -> None:
    chosen = pipeline("notify-hang")
    await prepared(kafka, chosen)
    await publish(kafka, chosen, [*messages("notify-hang", 5), alert(severity="critical", audience=["operations"])])
    async with Receiver() as good, Receiver(lambda _: None) as hanging:
        async with notifying(
            kafka,
            chosen,
            hangs={"url": hanging.url, "timeout": "30s"},
            all={"url": good.url},
            urgent={"url": good.url, "severity": "critical", "form": "slack", "group": 0},
        ) as (stuck, everyone, urgent):
            await until(
                lambda: everyone.results["delivered"] == 6 and urgent.results["delivered"] == 1, "both are done"
            )
            assert urgent.results["unwanted"] == 5
            assert (stuck.results.total(), len(hanging.posts)) == (0, 1), "and this one still waits"
        keys = [post.key for post in good.taken if "text" not in post.document]
    assert keys == [f"notify-hang-0-error-l{number}:opened:1" for number in range(5)] + ["p-0-error-l7:opened:1"]


async def test_a_dead_end_is_written_counted_and_logged(kafka: KafkaNode, caplog: Any) -> None:
    chosen = pipeline("notify-dead")
    await prepared(kafka, chosen)
    sent = messages("notify-dead", 4)
    await publish(kafka, chosen, [*sent, b'{"episode": "p", "stub": "too large"}', b"\xff"])
    registry = CollectorRegistry()
    async with Receiver(lambda post: 503 if post.document["episode"].endswith(("l0", "l1")) else 404) as receiver:
        async with notifying(kafka, chosen, away={"url": receiver.url}) as made:
            (away,) = made
            registry.register(NotifyCollector(lambda: made, list))
            await until(lambda: away.results["undelivered"] == 6, "all are given up")
            page = generate_latest(registry).decode()
        tries = [sum(post.document["episode"] == one["episode"] for post in receiver.posts) for one in sent]
    assert tries[0] > 2, "the first is tried for a while"
    assert tries[1:] == [1, 1, 1], "the next one once, as the webhook was gone; what is refused once"
    found = await read(kafka.bootstrap, undelivered_topic(chosen))
    assert [orjson.loads(one.value or b"") for one in found[:4]] == sent
    headers = [{name: value.decode() for name, value in one.headers} for one in found]
    assert [one["driftline.reason"] for one in headers[:4]] == ["503 as you say"] * 2 + ["404 as you say"] * 2
    assert [one["driftline.attempts"] for one in headers] == [str(count) for count in [*tries, 0, 0]]
    assert {one["driftline.webhook"] for one in headers} == {"away"}
    assert 'driftline_notifications_total{result="undelivered",webhook="away"} 6.0' in page
    assert 'driftline_notifier_up{webhook="away"} 1.0' in page
    ours = [record for record in caplog.records if record.name == "driftline.operate.notify"]
    told = [record.message for record in ours if record.levelname == "ERROR"]
    assert len(told) == 6
    assert all(receiver.url not in message for message in told)


async def test_repeats_are_posted_once_across_restarts(kafka: KafkaNode) -> None:
    chosen = pipeline("notify-repeat", delivery="at_least_once")
    await prepared(kafka, chosen)
    sent = messages("notify-repeat", 3)
    await publish(kafka, chosen, [sent[0], sent[0], sent[1]])
    async with Receiver() as receiver:
        async with notifying(kafka, chosen, one={"url": receiver.url}) as (first,):
            await until(lambda: first.results["delivered"] == 2, "both are posted")
            assert first.results["repeated"] == 1
        await publish(kafka, chosen, [sent[1], sent[0], sent[2]])
        async with notifying(kafka, chosen, one={"url": receiver.url}) as (second,):
            await until(lambda: second.results["delivered"] == 1, "the new one is posted")
            assert second.results["repeated"] == 2
        keys = [post.key for post in receiver.posts]
    assert keys == [f"{one['episode']}:opened:1" for one in sent]


async def test_a_new_webhook_may_begin_now(kafka: KafkaNode) -> None:
    chosen = pipeline("notify-now")
    await prepared(kafka, chosen)
    sent = messages("notify-now", 2)
    await publish(kafka, chosen, sent[:1])
    async with Receiver() as receiver:
        async with notifying(kafka, chosen, late={"url": receiver.url, "start": "now"}) as (late,):
            await until(lambda: late.has_place, "it knows where it begins")
        await publish(kafka, chosen, sent[1:])
        async with notifying(kafka, chosen, late={"url": receiver.url, "start": "now"}) as (late,):
            await until(lambda: late.results["delivered"] == 1, "what came since is posted")
    assert [post.document["episode"] for post in receiver.posts] == [sent[1]["episode"]]


async def test_of_several_workers_one_sees_all_shards_and_another_takes_over(kafka: KafkaNode) -> None:
    chosen = pipeline("notify-many", shards=3)
    at = settings_of(kafka.bootstrap)
    await create(chosen, at, partitions=3, shards=3)
    await create_undelivered(chosen, at)

    async def say(state: str, update: int) -> None:
        async with producer(client_options(at), acks="all") as sender:
            for shard in range(3):
                one = alert(pipeline="notify-many", episode=f"notify-many-{shard}-error-l7", state=state, update=update)
                await sender.send_and_wait(chosen.topics.alerts, orjson.dumps(one), partition=shard)

    async with Receiver() as hook:
        webhook = Webhook.model_validate({"form": "json", "url": hook.url, "group": "1s"})
        made = [Notifier(chosen, at, "team", webhook) for _ in range(3)]
        tasks = {one: asyncio.create_task(one.run()) for one in made}
        try:
            await until(lambda: sum(one.has_place for one in made) == 1, "one has all partitions")
            (reader,) = [one for one in made if one.has_place]
            await say("opened", 1)
            await until(lambda: len(hook.taken) == 1, "one message of all shards")
            assert {part["episode"][12] for part in hook.taken[0].document["parts"]} == {"0", "1", "2"}
            tasks[reader].cancel()
            await asyncio.wait([tasks.pop(reader)])
            rest = [one for one in made if one is not reader]
            await until(lambda: sum(one.has_place for one in rest) == 1, "another one takes over")
            await say("resolved", 2)
            await until(lambda: len(hook.taken) == 2, "it knows what was said")
            assert (hook.taken[1].document["state"], len(hook.taken[1].document["parts"])) == ("resolved", 3)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.wait(tasks.values())
    assert len({post.key for post in hook.posts}) == len(hook.posts) == 2


async def test_a_note_outlives_the_member_that_wrote_it(kafka: KafkaNode) -> None:
    """As digests on a schedule know what was sent."""
    chosen = pipeline("notify-note")
    await prepared(kafka, chosen)
    options, place = client_options(settings_of(kafka.bootstrap)), (chosen.topics.alerts, "notify-note.digest.weekly")
    async with keeper(options, *place, poll_interval_max_ms=60_000) as first:
        while not await first.holds():
            pass
        assert await first.read() is None
        await first.write("17")
        async with keeper(options, *place, poll_interval_max_ms=60_000) as second:
            held = [await first.holds(), await second.holds()]
            while sum(held) != 1:
                held = [await first.holds(), await second.holds()]
            assert await (first if held[0] else second).read() == "17"


async def test_it_works_on_the_embedded_broker(embedded: EmbeddedNode) -> None:
    chosen = pipeline("notify-embedded", delivery="at_least_once")
    await prepared(embedded, chosen)
    sent = messages("notify-embedded", 3)
    async with (
        Receiver(lambda post: 404 if post.document["episode"].endswith("l1") else 200) as receiver,
        notifying(embedded, chosen, one={"url": receiver.url}) as (one,),
    ):
        await publish(embedded, chosen, sent)
        await until(lambda: one.results == {"delivered": 2, "undelivered": 1}, "all are brought to their end")
    (dead,) = await read(embedded.bootstrap, undelivered_topic(chosen))
    assert orjson.loads(dead.value or b"") == sent[1]


async def test_a_webhook_file_that_is_wrong_stops_the_worker_at_once(kafka: KafkaNode, tmp_path: Path) -> None:
    from tests.support.command import driftline

    file = tmp_path / "p.yaml"
    file.write_bytes(orjson.dumps(pipeline("notify-file").resolved()))
    await create(pipeline("notify-file"), settings_of(kafka.bootstrap), partitions=1, shards=1)
    (tmp_path / "notify.yaml").write_text("webhooks: {a: {form: fax}}")
    done = await asyncio.to_thread(
        driftline, "worker", "-p", file, "--bootstrap", kafka.bootstrap, "--notify", tmp_path / "notify.yaml"
    )
    assert done.returncode == 2
    assert "webhooks.a.form" in done.stderr
