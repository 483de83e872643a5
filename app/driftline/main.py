"""The Faust app: `faust -A driftline.main worker`, or `driftline worker -p FILE`.

Faust gives the process: life cycle, signals, logging, the web server. The data path is not Faust's: an agent costs
75 to 110 us a record, and its exactly-once loses records that this project promises to keep. The engine runs as one
service inside it, with clients of its own, so Faust itself opens no connection to Kafka.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import faust
from faust.app.base import BootStrategy
from mode import Service

from driftline import __version__
from driftline.config import Settings, load_pipeline, load_settings
from driftline.core.error import DriftlineError, SettingsError, UnreachableError
from driftline.core.pipeline import Pipeline
from driftline.engine.outage import Outage
from driftline.engine.runner import BACKOFF_S
from driftline.engine.start import Start
from driftline.engine.trust import Unsigned
from driftline.engine.worker import Worker
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.topic import create_undelivered, deliverable, verify
from driftline.kafka.topic_rule import TopicProblem
from driftline.operate.apart import sweep
from driftline.operate.exposition import CONTENT_TYPE, Exposition
from driftline.operate.log import guard, logging_config
from driftline.operate.log_filter import quieten
from driftline.operate.metric import NotifyCollector, WorkerCollector
from driftline.operate.notify import Notifier
from driftline.operate.schedule import Sender, unfit
from driftline.operate.webhook import Webhook, load_webhooks
from driftline.web.feed import BoardFeed
from driftline.web.server import BoundedWeb
from driftline.web.site import Site

log = logging.getLogger(__name__)

NOTIFY_STOP_S = 5.0


class _Boot(BootStrategy):
    """Services and web only: the engine has its own Kafka clients."""

    enable_kafka = False


class _App(faust.App):
    BootStrategy = _Boot
    site: Site | None = None

    def _new_web(self) -> BoundedWeb:
        made = BoundedWeb(self)
        if self.site is not None:
            self.site.add_to(made.web_app)
        return made


class Engine(Service):
    """The engine as a service of the Faust worker.

    Attributes:
        worker: the engine's worker, once Kafka answered and the topics were found to be as they must be.
        outage: whether Kafka answers.
        failure: what stopped it, if not a signal.
        tells: the log has the text of an error of ours, since no command ends with it.
    """

    def __init__(
        self, pipeline: Pipeline, settings: Settings, start: Start, *, tells: bool = False, **options: Any
    ) -> None:
        self.tells = tells
        self.pipeline = pipeline
        self.settings = settings
        self.start_options = start
        self.worker: Worker | None = None
        self.failure: BaseException | None = None
        self.outage = Outage()
        self._running: asyncio.Task[None] | None = None
        self._crashing: asyncio.Future[None] | None = None
        super().__init__(**options)

    def unready(self) -> list[str]:
        """Why it does no work, or not all of it, as text; nothing where it does."""
        if self.failure is not None:
            return [f"it failed and is stopping: {str(self.failure).partition(chr(10))[0]:.300}"]
        if self.worker is not None:
            return self.worker.unready()
        return ["Kafka is unavailable" if self.outage.on else "it is starting: checking the topics"]

    async def on_start(self) -> None:
        log.info(
            "Driftline %s: pipeline %s, Kafka at %s, pages on http://%s:%d",
            __version__,
            self.pipeline.name,
            self.settings.bootstrap,
            self.settings.web_host,
            self.settings.web_port,
        )
        if swept := sweep(self.settings):
            log.info("removed %d folders that a killed worker left in %s/apart", swept, self.settings.data_dir)
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._ended)

    async def _run(self) -> None:
        """Wait until Kafka answers, look at the topics, then work. Pages are served in the meantime: live, and not
        ready."""
        for problem in await self._verified():
            log.warning("%s", problem)
        broker = KafkaBroker(self.pipeline, self.settings)
        self.worker = Worker(broker, self.pipeline, self.start_options, outage=self.outage)
        await self.worker.run()

    async def _verified(self) -> list[TopicProblem]:
        failures = 0
        while True:
            try:
                problems = await verify(self.pipeline, self.settings)
                self.pipeline = await deliverable(self.pipeline, self.settings)
                if self.settings.notify is not None:
                    await create_undelivered(self.pipeline, self.settings)
            except UnreachableError as error:
                self.outage.failed(error)
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
            else:
                self.outage.answered()
                return problems

    def _ended(self, running: asyncio.Task[None]) -> None:
        """An error that reaches this place stops the process."""
        if not running.cancelled() and (error := running.exception()) is not None:
            self.failure = error
            if not isinstance(error, DriftlineError):  # whose text is what the command ends with
                log.critical("the engine failed: %r", error, exc_info=error)
            elif self.tells:
                log.critical("%s", error)
            self._crashing = asyncio.ensure_future(self.crash(error))

    async def on_stop(self) -> None:
        if self._running is not None and not self._running.done():
            log.info("stopping: the slice under way is finished, and a snapshot is written")
            if self.worker is not None:
                self.worker.stop()
            else:
                self._running.cancel()
            await asyncio.wait({self._running})


class Notification(Service):
    """The notifiers as a service of the Faust worker: one a webhook. Whatever becomes of them, the engine goes on.

    Attributes:
        notifiers: in the order of the settings file.
        senders: of digests, in the order of the pipeline file.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, webhooks: Mapping[str, Webhook], **options: Any) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.notifiers = [Notifier(pipeline, settings, name, webhook) for name, webhook in webhooks.items()]
        self.senders = [
            Sender(pipeline, settings, name, form, webhooks[form.to])
            for name, form in pipeline.digests.items()
            if unfit(form, webhooks.get(form.to)) is None
        ]
        self._posting: set[asyncio.Task[None]] = set()
        super().__init__(**options)

    async def on_start(self) -> None:
        running = {f"webhook-{one.name}": one.run() for one in self.notifiers}
        running |= {f"digest-{one.name}": one.run() for one in self.senders}
        for name, made in running.items():
            task = asyncio.create_task(made, name=name)
            task.add_done_callback(self._ended)
            self._posting.add(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s stopped; it goes on where it was after the next start", task.get_name(), exc_info=error)

    async def on_stop(self) -> None:
        for task in self._posting:
            task.cancel()
        if self._posting:
            await asyncio.wait(self._posting, timeout=NOTIFY_STOP_S)


class Host:
    """The Faust app of one pipeline, with its engine and its pages.

    Attributes:
        app: the Faust app.
        engine: the engine, once Faust has started it.
        notification: what posts alerts to webhooks, if there are any.

    Raises:
        SettingsError: the file of webhooks, or the data folder, cannot be used.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, start: Start, *, tells: bool = False) -> None:
        self.engine: Engine | None = None
        self.notification: Notification | None = None
        self._name = pipeline.name
        webhooks = load_webhooks(settings.notify) if settings.notify is not None else {}
        for name, form in pipeline.digests.items():
            if (why := unfit(form, webhooks.get(form.to))) is not None:
                log.warning("digest %s is not sent by this worker: %s", name, why)
        quieten(settings.log_level)
        guard()
        folder = settings.data_dir / "faust"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"cannot create the data folder {folder} ({error.strerror}); set DRIFTLINE_DATA_DIR to another"
            ) from error
        self.app = _App(
            f"driftline-{pipeline.name}",
            broker=f"kafka://{settings.bootstrap}",
            store="memory://",
            datadir=str(folder),
            web_host=settings.web_host,
            web_bind=settings.web_host,
            web_port=settings.web_port,
            logging_config=logging_config(settings.log_format, settings.log_level, pipeline.name),
            web_router_enabled=False,
            web_tables_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            autodiscover=False,
        )
        self.app.site = Site(pipeline, settings, BoardFeed(pipeline, settings, self._shards))
        host = self

        @self.app.service  # Faust makes the instance itself
        class Hosted(Engine):
            def __init__(self, **options: Any) -> None:
                super().__init__(pipeline, settings, start, tells=tells, **options)
                host.engine = self

        if webhooks:

            @self.app.service
            class Notified(Notification):
                def __init__(self, **options: Any) -> None:
                    super().__init__(pipeline, settings, webhooks, **options)
                    host.notification = self

        self._add_pages()

    @property
    def _worker(self) -> Worker | None:
        return self.engine.worker if self.engine is not None else None

    def _shards(self) -> list[int]:
        """The shards of this worker."""
        return sorted(self._worker.runners) if self._worker is not None else []

    def _add_pages(self) -> None:
        worker = WorkerCollector(lambda: self._worker, lambda: self.engine.outage if self.engine is not None else None)
        notifiers = NotifyCollector(
            lambda: self.notification.notifiers if self.notification else [],
            lambda: self.notification.senders if self.notification else [],
        )
        exposition = Exposition(self._name, [worker, notifiers])

        @self.app.page("/metrics")
        async def metrics(web: Any, request: Any) -> Any:
            return web.bytes(exposition.page(), content_type=CONTENT_TYPE)

        @self.app.page("/health/live")
        async def live(web: Any, request: Any) -> Any:
            return web.json({"live": True})

        @self.app.page("/health/ready")
        async def ready(web: Any, request: Any) -> Any:
            worker = self._worker
            shards = {str(number): runner.ready for number, runner in worker.runners.items()} if worker else {}
            reasons = self.engine.unready() if self.engine is not None else ["it is starting"]
            notes = worker.notes() if worker else []
            page = {"ready": not reasons, "shards": shards} | ({"reasons": reasons} if reasons else {})
            page |= {"notes": notes} if notes else {}
            return web.json(page, status=503 if reasons else 200)


def _from_environment() -> faust.App:
    settings = load_settings()
    if settings.pipeline is None:
        raise SettingsError("no pipeline: set DRIFTLINE_PIPELINE to a pipeline file, or use `driftline worker -p FILE`")
    return Host(load_pipeline(settings.pipeline), settings, start_of(settings), tells=True).app


def start_of(
    settings: Settings, *, reset_state: bool = False, gap_continue: bool = False, unsigned: Unsigned = "refuse"
) -> Start:
    """How shards begin on this deployment."""
    patience_s = settings.merge_patience_ms / 1000
    return Start(
        reset_state=reset_state,
        gap_continue=gap_continue,
        ring=settings.ring,
        patience_s=patience_s,
        unsigned=unsigned,
        unsigned_models=settings.accept_unsigned_models,
    )


def __getattr__(name: str) -> Any:
    """`faust -A driftline.main worker` asks for `app`; importing this module alone reads no settings."""
    if name == "app":
        globals()["app"] = _from_environment()
        return globals()["app"]
    raise AttributeError(name)
