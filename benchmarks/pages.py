"""What open pages cost a worker: the share of its CPU time that their stream and their reader of topics take.

    python -m benchmarks.pages
    python -m benchmarks.pages --full

The worker is one of `driftline worker` on the embedded broker, at a steady load. In its event loop the CPU time of all
that belongs to a page is counted apart: what the request for the stream started, and the tasks and connections of it.
A worker that is full has that share of its core less for records, so it is the throughput that is lost. As
CPU time of one process, it is much the same on a busy machine.

The embedded broker keeps some 5 MB of a partition: at a rate that the worker cannot follow it deletes what was not
read, and the worker ends. So with `--full` the worker is stopped while `BACKLOG` rows are sent, and measured while it
works through them, as fast as it can.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from driftline.cli import card_fraud
from driftline.config import load_settings, read_pipeline
from driftline.devbroker import embedded
from driftline.ingest.feed import RowSender
from driftline.ingest.table import Sample
from driftline.kafka.topic import create
from tests.support.command import Command, fetch, free_port, sample

SHARDS = 2
SETTLE_S = 4.0  # the history is read when the first page opens, which a page costs once
LABEL_DELAY_MS = 900_000
BACKLOG = 20_000
FULL_SETTLE_S = 1.0
CAUGHT_UP_S = 120.0


@asynccontextmanager
async def opened(port: int, count: int) -> AsyncIterator[None]:
    """So many pages' streams, read as a browser does."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def read() -> None:
            async with session.get(f"http://127.0.0.1:{port}/api/stream") as answer:
                async for _ in answer.content.iter_any():
                    pass

        reading = [asyncio.create_task(read()) for _ in range(count)]
        try:
            yield
        finally:
            for task in reading:
                task.cancel()
            if reading:
                await asyncio.wait(reading)


async def spent(
    counts: Path, port: int, pages: int, span_s: float, settle_s: float = SETTLE_S
) -> tuple[float, float, float]:
    """CPU seconds a second of pages and of all else in the worker, and events a second, with so many pages open."""
    async with opened(port, pages):
        await asyncio.sleep(settle_s)
        began, began_s, scored = _read(counts), time.monotonic(), _scored(port)
        await asyncio.sleep(span_s)
        took_s = time.monotonic() - began_s
        of_pages, of_rest = (after - before for before, after in zip(began, _read(counts), strict=True))
        return of_pages / took_s, of_rest / took_s, (_scored(port) - scored) / took_s


def _read(counts: Path) -> tuple[float, float]:
    pages, rest = map(float, counts.read_text().split())
    return pages, rest


def _scored(port: int) -> float:
    page = fetch(port, "/metrics")
    return 0.0 if page is None else sample(page[1], "driftline_scores_total")


async def measure(pages: int, rate: float, rounds: int, span_s: float, folder: Path, *, full: bool) -> None:
    text = card_fraud.PIPELINE.format(name="pages", delivery="at_least_once") + f"shards: {SHARDS}\n"
    file = folder / "pages.yaml"
    file.write_text(text)
    pipeline, port = read_pipeline(text), free_port()
    count = BACKLOG * (rounds * 2 + 1) if full else int(rate * (rounds * 2 + 2) * (span_s + SETTLE_S + 5))
    samples = card_fraud.payments(count, count, int(time.time() * 1000) - count * card_fraud.STEP_MS)
    with embedded.start() as node:
        settings = load_settings({"HOME": "/nonexistent"}, {"bootstrap": node.bootstrap})
        await create(pipeline, settings, partitions=SHARDS, retention_ms=-1)
        arguments = ("-p", file, "--bootstrap", node.bootstrap, "--web-port", port)
        counts = folder / "counts"
        with Command(
            folder, "worker", *arguments, module="benchmarks.pages", changes={"COUNTS": str(counts)}
        ) as worker:
            await asyncio.to_thread(worker.until_said, "recovered in", 60.0, SHARDS)
            sender = RowSender(pipeline, settings, label_delay_ms=LABEL_DELAY_MS, rate=1e6 if full else rate)
            if full:
                await _full_rounds(worker, sender, iter(samples), counts, port, (1, pages) * rounds, span_s)
                return
            sending = asyncio.create_task(sender.run(samples))
            try:
                await asyncio.sleep(10)
                await _rounds(worker, counts, port, pages, rounds, span_s)
            finally:
                sending.cancel()
                await asyncio.wait({sending})


async def _full_rounds(
    worker: Command,
    sender: RowSender,
    samples: Iterator[Sample],
    counts: Path,
    port: int,
    order: Sequence[int],
    span_s: float,
) -> None:
    """A worker with a backlog: the pages' share of what it computes."""
    shares: dict[int, list[float]] = {}
    sent = 0
    for open_now in order:
        worker.process.send_signal(signal.SIGSTOP)
        try:
            await sender.run(islice(samples, BACKLOG))
        finally:
            worker.process.send_signal(signal.SIGCONT)
        sent += BACKLOG
        of_pages, of_rest, rate = await spent(counts, port, open_now, span_s, FULL_SETTLE_S)
        left = sent - await asyncio.to_thread(_scored, port)
        shares.setdefault(open_now, []).append(of_pages / (of_pages + of_rest))
        print(
            f"{open_now} pages: {of_pages:.2%} of a core, the rest of the worker {of_rest:.1%}, so "
            f"{shares[open_now][-1]:.2%} of what it gets; {rate:,.0f} events/s, {left:,.0f} left"
        )
        await asyncio.to_thread(worker.until, partial(_has_scored, port, sent), CAUGHT_UP_S, "all is scored")
    for open_now, found in shares.items():
        print(f"{open_now} pages, full: {median(found):.2%} ({min(found):.2%} to {max(found):.2%})")


def _has_scored(port: int, count: int) -> bool:
    return _scored(port) >= count


async def _rounds(worker: Command, counts: Path, port: int, pages: int, rounds: int, span_s: float) -> None:
    shares, rates = [], []
    for _ in range(rounds):
        for open_now in (1, pages):
            of_pages, of_rest, rate = await spent(counts, port, open_now, span_s)
            if worker.process.poll() is not None:
                raise SystemExit(f"the worker ended:\n{worker.last_words()}")
            print(f"{open_now} pages: {of_pages:.2%} of a core, the rest of the worker {of_rest:.1%}")
            if open_now == pages:
                shares.append(of_pages)
                rates.append(rate)
    print(
        f"{pages} pages at {median(rates):,.0f} events/s: {median(shares):.2%} of a core "
        f"({min(shares):.2%} to {max(shares):.2%}); load {os.getloadavg()[0]:.1f}"
    )


def _work(counts: Path) -> None:
    """`driftline worker`, with the CPU time of its pages counted apart."""
    from driftline.__main__ import run
    from driftline.web import site

    of_page: ContextVar[bool] = ContextVar("of_page", default=False)
    spent_ns = {True: 0, False: 0}  # in the event loop
    run_one, events = asyncio.Handle._run, site.Site._events  # noqa: SLF001 - there is no other place to count

    def counted(handle: Any) -> Any:
        began_ns = time.thread_time_ns()
        try:
            return run_one(handle)
        finally:
            spent_ns[handle._context.get(of_page, False)] += time.thread_time_ns() - began_ns  # noqa: SLF001 - see above

    async def marked(self: Any, request: Any) -> Any:
        of_page.set(True)  # for all that it starts too
        return await events(self, request)

    def write() -> None:
        while True:
            part = counts.with_suffix(".part")
            of_pages_s = spent_ns[True] / 1e9
            part.write_text(f"{of_pages_s} {time.process_time() - of_pages_s}")
            part.replace(counts)
            time.sleep(0.1)

    asyncio.Handle._run = counted  # type: ignore[method-assign,assignment]  # noqa: SLF001 - see above
    site.Site._events = marked  # type: ignore[method-assign]  # noqa: SLF001 - see above
    threading.Thread(target=write, daemon=True).start()
    run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        _work(Path(os.environ["COUNTS"]))
    else:
        parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
        parser.add_argument("--pages", type=int, default=10)
        parser.add_argument("--rate", type=float, default=1_000.0)
        parser.add_argument("--rounds", type=int, default=4)
        parser.add_argument("--span", type=float, default=10.0)
        parser.add_argument("--full", action="store_true", help="measure a worker that works through a backlog")
        given = parser.parse_args()
        with tempfile.TemporaryDirectory(prefix="driftline-pages-") as name:
            asyncio.run(measure(given.pages, given.rate, given.rounds, given.span, Path(name), full=given.full))
