"""Digests on a schedule: one for each period of event time, posted to a webhook when the period is over.

The workers whose file of webhooks has the webhook share the work as members of a group, of which one at a time sends.
What was sent is known from the group: beside its offset Kafka keeps a note, the end of the last period whose digest the
webhook accepted. So a worker that takes over goes on with the next one, and a restart neither sends a digest twice nor
leaves one out. The note follows the post, so a crash in between can repeat that one, under the same `Idempotency-Key`.
A digest that cannot be made, or is not accepted, is tried again until it is; later ones wait for it.

The first period is the one under way when the schedule is first seen. A period is over once every shard has come to
its end, or one of them is `LATE_MS` beyond it: a shard without events does not hold digests back. The digest is made by
`driftline digest`, in a process of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import aiohttp
import msgspec
import orjson

from driftline.codec.inputs import layout_of
from driftline.config import Settings
from driftline.core.duration import format_duration
from driftline.core.error import DriftlineError, InputFileError
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.digest import DigestForm
from driftline.core.timestamp import exactly, written
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import Keeper, admin, answered, client_options, keeper, partition_counts
from driftline.operate.apart import output_of
from driftline.operate.notify import attempt
from driftline.operate.status import read_status
from driftline.operate.webhook import Answer, Webhook, send, slack_text

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 30.0
AGAIN_S: Final = 300.0  # after one that could not be sent
LATE_MS: Final = 600_000
MISSED_MAX: Final = 10  # periods that are sent at once: time may go on by years from one record to the next
MADE_WITHIN_S: Final = 1_800.0
_FORMATS: Final = {"slack": "slack", "json": "markdown"}


class Sender:
    """Sends the digests of one schedule, until cancelled.

    Attributes:
        results: digests by what became of them: `delivered`, `failed` (to be tried again).
        running: Kafka answered the last time that it looked for what is due, or it is another worker's turn.
        sent_s: when the webhook last accepted a digest of this worker, in seconds since 1970; None before that.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, name: str, form: DigestForm, webhook: Webhook) -> None:
        self.name = name
        self.results: Counter[str] = Counter()
        self.running = False
        self.sent_s: float | None = None
        self._pipeline, self._settings = pipeline, settings
        self._form, self._webhook = form, webhook

    async def run(self) -> None:
        """Look and send, forever; faults of Kafka and of the webhook are waited out."""
        options = client_options(self._settings)
        group_id = f"{self._pipeline.name}.digest.{self.name}"
        alive_ms = int(1_000 * (MADE_WITHIN_S + AGAIN_S)) + self._webhook.give_up_ms
        while True:
            try:
                topic = self._pipeline.topics.alerts
                async with keeper(options, topic, group_id, poll_interval_max_ms=alive_ms) as kept:
                    await self.keep(kept, self._times)
            except (DriftlineError, OSError) as error:
                self.running = False
                log.warning("digest %s: %s; trying again", self.name, error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def keep(self, kept: Keeper, times: Callable[[], Awaitable[list[int]]]) -> None:
        """Look and send, while this member is the one that does.

        Args:
            times: asks where each shard is, in event time.
        """
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                pause_s = LOOK_EVERY_S
                times_ms = await times() if await kept.holds() else []
                self.running = True
                if not await self._look(kept, session, times_ms):
                    pause_s = AGAIN_S
                await asyncio.sleep(pause_s)

    async def _look(self, kept: Keeper, session: aiohttp.ClientSession, times_ms: list[int]) -> bool:
        """Send what is due; returns False where it could not be."""
        if not times_ms:
            return True
        over_ms = self._form.ended_ms(over_at(times_ms))
        sent_ms = _sent(await kept.read())
        if sent_ms is None:
            await kept.write(str(over_ms))
            first = written(over_ms + self._form.every_ms)
            log.info("digest %s begins: the first is that of the period to %s, of event time", self.name, first)
            return True
        if sent_ms < (least_ms := over_ms - MISSED_MAX * self._form.every_ms):
            text = "digest %s: time went on from %s to %s, and only the last %d periods are sent"
            log.warning(text, self.name, written(sent_ms), written(over_ms), MISSED_MAX)
            sent_ms = least_ms
        # Another `every` begins anew at its own next period.
        while (end_ms := self._form.ended_ms(sent_ms + self._form.every_ms)) <= over_ms:
            if not await self._send(session, end_ms):
                return False
            await kept.write(str(end_ms))
            sent_ms = end_ms
            if not await kept.holds():
                break
        return True

    async def _send(self, session: aiohttp.ClientSession, end_ms: int) -> bool:
        key = f"{self._pipeline.name}:digest:{self.name}:{end_ms}"
        try:
            content = await self._made(end_ms, key)
        except InputFileError as error:
            self.results["failed"] += 1
            log.error("digest %s of the period to %s cannot be made: %s", self.name, written(end_ms), error)
            return False
        answer, _ = await attempt(
            lambda: send(session, self._webhook, key, content),
            backoff_s=self._webhook.backoff_ms / 1000,
            give_up_s=self._webhook.give_up_ms / 1000,
            failed=self._failed,
        )
        delivered = answer is not None and answer.verdict == "taken"
        self.results["delivered" if delivered else "failed"] += 1
        if delivered:
            self.sent_s = time.time()
            log.info("webhook %s accepted digest %s of the period to %s", self._form.to, self.name, written(end_ms))
        else:
            log.error("digest %s was not accepted by webhook %s; it stays due", self.name, self._form.to)
        return delivered

    def _failed(self, answer: Answer) -> None:
        log.warning(
            "webhook %s (%s) did not accept digest %s: %s", self._form.to, self._webhook.host, self.name, answer.detail
        )

    async def _made(self, end_ms: int, key: str) -> bytes:
        """What is posted of the period that ends then."""
        form, kind = self._form, _FORMATS[self._webhook.form]
        words = ["digest", "--since", str(format_duration(form.every_ms)), "--until", exactly(end_ms), "--format", kind]
        words += [] if form.role is None else ["--role", form.role]
        text = (await output_of(self._pipeline, self._settings, words, MADE_WITHIN_S)).decode("utf-8", "replace")
        if kind == "slack":
            return orjson.dumps({"text": slack_text(text)})
        document = {
            "pipeline": self._pipeline.name, "digest": self.name, "role": form.role,
            "since_ms": end_ms - form.every_ms, "until_ms": end_ms, "format": kind, "text": text,
            "idempotency_key": key,
        }  # fmt: skip
        return msgspec.json.encode(document)

    async def _times(self) -> list[int]:
        """Where each shard is, in event time, by its journal; of those that have begun."""
        options = client_options(self._settings)
        with answered(options):
            async with admin(options) as client:
                counts = await partition_counts(client)
        layout = layout_of(self._pipeline, counts)
        shards = await read_status(KafkaBroker(self._pipeline, self._settings), self._pipeline, layout)
        notes = [shard.note for shard in shards if shard.note is not None]
        return [note["watermark_ms"] for note in notes if note.get("watermark_ms") is not None]


def over_at(times_ms: Iterable[int]) -> int:
    """The time up to which periods are over."""
    times = list(times_ms)
    return max(min(times), max(times) - LATE_MS)


def _sent(note: str | None) -> int | None:
    """The end of the last period that was sent; None where no one has noted it."""
    return int(note) if note and note.isascii() and note.isdecimal() else None


def unfit(form: DigestForm, webhook: Webhook | None) -> str | None:
    """Why a digest cannot go where it is to go; None where it can."""
    if webhook is None:
        return f"there is no webhook {form.to!r} here; name it in the file of --notify"
    if webhook.form not in _FORMATS:
        return f"webhook {form.to!r} has form {webhook.form}, which takes alerts only"
    return None
