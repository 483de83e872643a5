"""Notification: reads the alerts topic and posts to webhooks.

One consumer group a webhook, so each has its own place in the topic: one that hangs or is away keeps no one waiting
but itself. One reader at a time has all partitions of it (the next one takes over when that is gone), so that it sees
what all shards say of one change; see `incident`. Alerts go one after the other, in order. It is a service beside the
engine and not a Faust agent, because an agent needs Faust's own Kafka transport (a second consumer, assignor and
leader, which this app does not start), commits on a timer instead of after delivery, and would share one place in the
topic among all webhooks.

What is promised: each message that a `read_committed` reader sees is posted at least once or ends, visibly, in
`<pipeline>.undelivered`. Its offset is committed after the webhook took it, so a crash can repeat at most the one
message under way, with the same `Idempotency-Key`. Repeats in the topic itself (delivery at_least_once) are known by
that key, across restarts too: at its start a reader looks back over the last records before its place.

A dead end is an alert that its webhook refused, or did not take in time. It is counted, logged, and written to
`<pipeline>.undelivered` as it was, with the webhook and the reason in its headers, before its offset is committed.
After a dead end each alert gets one attempt, until one is taken: a webhook that is gone does not pile up a queue.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import aiohttp
import msgspec
import orjson
from msgspec import Meta, Struct

from driftline.codec.encode import KEY_BYTES_MAX
from driftline.config import Settings
from driftline.core.error import BrokerError
from driftline.core.output import AlertState
from driftline.core.pipeline import Pipeline
from driftline.kafka.client import Arrival, Group, client_options, group, producer
from driftline.kafka.topic_rule import undelivered_topic
from driftline.operate.incident import FOREBODING_TIMES, Alert, Gathering, Incidents, Message, key_of
from driftline.operate.webhook import Answer, Webhook, linked, post

log = logging.getLogger(__name__)

BACKOFF_MAX_S = 60.0
RESTART_S = 5.0
LOOK_BACK = 200  # records before its place, whose keys a starting reader learns
KEYS_MAX = 2_000
GATHERED_MAX = 500  # alerts that are posted together
ALERT_BYTES_MAX = 64 * 1024  # ours are some kB
EPISODE_MAX, KIND_MAX = 2_000, 100  # characters
NOT_AN_ALERT = "not an alert (perhaps a stub for one that was too large)"


class _Needed(Struct):
    """What an alert must have for the posts to be made; others may have written something else."""

    pipeline: str
    episode: Annotated[str, Meta(max_length=EPISODE_MAX)]  # many are kept
    state: AlertState
    update: int
    kind: Annotated[str, Meta(max_length=KIND_MAX)]
    severity: str
    audience: list[str]
    sentence: str
    runbook: str
    opened_ms: int
    time_ms: int | None
    silenced: bool
    announced: bool
    evidence: dict[str, Any]


class Notifier:
    """Posts the alerts of one pipeline to one webhook, until cancelled.

    Attributes:
        results: alerts by what became of them, once that is noted: `delivered`, `undelivered`, `repeated` (known
            already), `unwanted` (another audience, not severe enough, silenced), `grouped` (the next message of its
            incident has it).
        incidents: what was posted of changes that are not over, where alerts are gathered.
        failed_attempts: attempts that were not taken.
        running: whether it reads.
        has_place: it was given partitions and knows its place in them.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, name: str, webhook: Webhook) -> None:
        self.name = name
        self.webhook = webhook
        self.results: Counter[str] = Counter()
        self.failed_attempts = 0
        self.running = False
        self.has_place = False
        self._pipeline = pipeline
        self._settings = settings
        self.incidents = Incidents()
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._given_up = False

    @property
    def group_id(self) -> str:
        return f"{self._pipeline.name}.notify.{self.name}"

    async def run(self) -> None:
        """Read and post, forever; Kafka's faults are waited out."""
        while True:
            try:
                await self._read()
            except (BrokerError, OSError) as error:
                log.warning("webhook %s: %s; trying again", self.name, error)
            finally:
                self.running = False
            await asyncio.sleep(RESTART_S)

    async def _read(self) -> None:
        webhook = self.webhook
        options = client_options(self._settings)
        gathered_ms = 1_000 * webhook.gather_s * FOREBODING_TIMES
        alive_ms = int(webhook.give_up_ms + 50 * webhook.timeout_ms + gathered_ms) + 60_000
        async with (
            group(
                options,
                self._pipeline.topics.alerts,
                self.group_id,
                committed=self._pipeline.delivery == "exactly_once",
                from_beginning=webhook.start == "beginning",
                poll_interval_max_ms=alive_ms,
                look_back=LOOK_BACK,
            ) as alerts,
            producer(options, acks="all", enable_idempotence=True) as undelivered,
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        ):
            self.running = True
            self.incidents = Incidents()
            while True:
                arrival = await self._next(alerts)
                if arrival is None:
                    continue
                if webhook.gather_s:
                    gathered = await self._gather(alerts, arrival)
                    await self._settle_together(session, undelivered, gathered, alerts)
                    continue
                result = await self._settle(session, undelivered, arrival, alerts)
                if result is not None:
                    await alerts.done(arrival)
                    self.results[result] += 1

    async def _next(self, alerts: Group) -> Arrival | None:
        """The next alert that is new; those before its place are recalled on the way."""
        found = await alerts.next()
        self.has_place = alerts.has_place
        if found is None:
            return None
        arrival, is_new = found
        if is_new:
            return arrival
        alert = read_alert(arrival)
        self._remember(alert)
        if alert is not None and self.webhook.gather_s and self.webhook.wants(alert):
            self.incidents.recall(alert)
        return None

    async def _gather(self, alerts: Group, first: Arrival) -> list[Arrival]:
        """What comes within the time in which alerts are gathered, at most `GATHERED_MAX`."""
        gathered, gathering = [first], Gathering(time.monotonic(), self.webhook.gather_s)
        gathering.add(read_alert(first), gathering.begun_s)
        while time.monotonic() < gathering.until_s and len(gathered) < GATHERED_MAX:
            arrival = await self._next(alerts)
            if arrival is not None:
                gathered.append(arrival)
                gathering.add(read_alert(arrival), time.monotonic())
        return [arrival for arrival in gathered if alerts.owns(arrival)]

    async def _settle_together(
        self, session: aiohttp.ClientSession, undelivered: Any, gathered: list[Arrival], alerts: Group
    ) -> None:
        """Post what was gathered, a message for each change; then all of it is done with."""
        results: Counter[str] = Counter()
        wanted: list[Alert] = []
        arrivals: dict[str, Arrival] = {}
        for arrival in gathered:
            alert = read_alert(arrival)
            if alert is None:
                await self.set_aside(undelivered, arrival, NOT_AN_ALERT, 0)
                results["undelivered"] += 1
            elif key_of(alert) in self._keys or key_of(alert) in arrivals:
                results["repeated"] += 1
            elif not self.webhook.wants(alert):
                results["unwanted"] += 1
            else:
                arrivals[key_of(alert)] = arrival
                wanted.append(linked(alert, self._settings.web_url, self._pipeline.alerts.runbook))
        posted = 0
        for message in self.incidents.take(wanted):
            news = [arrivals[key_of(part)] for part in message.news if key_of(part) in arrivals]
            answer, attempts = await self._attempt(session, message, lambda: all(map(alerts.owns, gathered)))
            if answer is None:
                raise BrokerError("a partition went to another reader, which begins again with what was gathered")
            result = "delivered" if answer.verdict == "taken" else "undelivered"
            if result == "undelivered":
                for arrival in news:
                    await self.set_aside(undelivered, arrival, answer.detail, attempts)
            results[result] += len(news)
            posted += len(news)
        results["grouped"] += len(wanted) - posted
        for alert in wanted:
            self._remember(alert)
        for arrival in _last_of_each(gathered):
            await alerts.done(arrival)
        self.results += results

    async def _settle(
        self, session: aiohttp.ClientSession, undelivered: Any, arrival: Arrival, alerts: Group
    ) -> Literal["delivered", "undelivered", "repeated", "unwanted"] | None:
        """Bring one message to its end; None where it is not ours any more."""
        alert = read_alert(arrival)
        if alert is None:
            await self.set_aside(undelivered, arrival, NOT_AN_ALERT, 0)
            return "undelivered"
        if key_of(alert) in self._keys:
            return "repeated"
        alert = linked(alert, self._settings.web_url, self._pipeline.alerts.runbook)
        if not self.webhook.wants(alert):
            return "unwanted"
        answer, attempts = await self._attempt(session, alert, lambda: alerts.owns(arrival))
        if answer is None:
            return None
        if answer.verdict != "taken":
            await self.set_aside(undelivered, arrival, answer.detail, attempts)
        self._remember(alert)
        return "delivered" if answer.verdict == "taken" else "undelivered"

    async def _attempt(
        self, session: aiohttp.ClientSession, what: Alert | Message, ours: Callable[[], bool]
    ) -> tuple[Answer | None, int]:
        """Post until it is taken, refused, or there is no more time; as `attempt`."""
        key = what.key if isinstance(what, Message) else key_of(what)
        answer, attempts = await attempt(
            lambda: post(session, self.webhook, what, datetime.now(UTC)),
            backoff_s=self.webhook.backoff_ms / 1000,
            give_up_s=0.0 if self._given_up else self.webhook.give_up_ms / 1000,
            failed=lambda answer: self._failed(key, answer),
            ours=ours,
        )
        if answer is not None and answer.verdict == "taken":
            log.info("webhook %s accepted %s", self.name, key)
        if answer is not None:
            self._given_up = answer.verdict == "later"
        return answer, attempts

    def _failed(self, key: str, answer: Answer) -> None:
        self.failed_attempts += 1
        log.warning("webhook %s (%s) did not accept %s: %s", self.name, self.webhook.host, key, answer.detail)

    async def set_aside(self, undelivered: Any, arrival: Arrival, reason: str, attempts: int) -> None:
        headers = [
            ("driftline.webhook", self.name.encode()),
            ("driftline.reason", reason[:500].encode()),
            ("driftline.attempts", b"%d" % attempts),
            ("driftline.partition", b"%d" % arrival.partition),
            ("driftline.offset", b"%d" % arrival.offset),
        ]
        topic, key, value = undelivered_topic(self._pipeline), arrival.key, arrival.value
        # What is larger than any alert of ours would not fit with these headers, now and at every start.
        if value is not None and len(value) > (most := self._pipeline.limits.output_bytes_max):
            headers.append(("driftline.truncated_bytes", b"%d" % len(value)))
            value = value[:most]
        if key is not None and len(key) > KEY_BYTES_MAX:
            key = None
        try:
            await undelivered.send_and_wait(topic, value, key=key, headers=headers)
        except Exception as error:
            raise BrokerError(f"cannot write to {topic} ({error}); check the broker") from error
        log.error(
            "webhook %s (%s): an alert (offset %d of partition %d) could not be delivered: %s; it was written to %s",
            self.name,
            self.webhook.host,
            arrival.offset,
            arrival.partition,
            reason,
            topic,
        )

    def _remember(self, alert: Alert | None) -> None:
        if alert is None:
            return
        self._keys[key_of(alert)] = None
        while len(self._keys) > KEYS_MAX:
            self._keys.popitem(last=False)


async def attempt(
    once: Callable[[], Awaitable[Answer]],
    *,
    backoff_s: float,
    give_up_s: float,
    failed: Callable[[Answer], None],
    ours: Callable[[], bool] = lambda: True,
) -> tuple[Answer | None, int]:
    """Try until it is taken or refused, or there is no time for another attempt.

    Args:
        backoff_s: pause before the second attempt; each next one is twice as long, at most a minute, and up to a half
            longer by chance.
        ours: asked before each further attempt.

    Returns:
        The last answer (None when it is not ours to try any more), and how many attempts were made.
    """
    begun_s = time.monotonic()
    attempts = 0
    while True:
        answer = await once()
        attempts += 1
        if answer.verdict == "taken":
            return answer, attempts
        failed(answer)
        pause_s = max(min(backoff_s * 2 ** (attempts - 1), BACKOFF_MAX_S) * random.uniform(1, 1.5), answer.after_s)
        if answer.verdict == "refused" or time.monotonic() + pause_s > begun_s + give_up_s:
            return answer, attempts
        await asyncio.sleep(pause_s)
        if not ours():
            return None, attempts


def _last_of_each(gathered: list[Arrival]) -> list[Arrival]:
    """The last one of each partition."""
    return list({arrival.partition: arrival for arrival in gathered}.values())


def read_alert(arrival: Arrival) -> Mapping[str, Any] | None:
    """The alert of a record; None where it is none, as a stub, or larger than any of ours."""
    if arrival.value is not None and len(arrival.value) > ALERT_BYTES_MAX:
        return None
    try:
        alert: dict[str, Any] = orjson.loads(arrival.value or b"null")
        msgspec.convert(alert, _Needed)
        orjson.dumps(alert)  # what is nested deeper than JSON is written cannot be posted
    except (TypeError, ValueError, RecursionError):
        return None
    return alert
