"""From SIGKILL of one worker to a ready shard on another, and what that time is made of.

`python -m benchmarks.takeover [PAIRS] [TIMES]`, on a Kafka of its own: PAIRS events with labels are processed and stay
in the journal; then, TIMES times, the worker that has the shard is killed and another one is started as standby.

* *group*: until the standby is given the shard. Kafka must first miss the heartbeats of the dead worker for the session
  time-out (10 s), and then the group rebalances.
* *before*: until the recovery begins; *snapshot*: reading it, and making a state of it.
* *producer and replay*: a new producer fences the old one, and what the journal has after the snapshot is replayed.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from benchmarks import case
from driftline.config import dump_pipeline, load_settings
from driftline.devbroker import kafka
from driftline.ingest.feed import RowSender
from driftline.kafka import topic

WITHIN_S = 240.0
ASSIGNED = re.compile(r"shards of this worker: (0|none)$")
RECOVERED = re.compile(r"recovered in ([\d.]+) s \(of which the snapshot took ([\d.]+)\): (\d+) slices, (\d+) records")


class Worker:
    """A worker process, with the time of each line of its log."""

    def __init__(self, file: Path, bootstrap: str) -> None:
        command = [sys.executable, "-m", "driftline", "worker", "-p", str(file), "--bootstrap", bootstrap]
        self.process = subprocess.Popen(
            [*command, "--web-port", str(_free_port())], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[tuple[float, str]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append((time.monotonic(), line.rstrip()))

    def until(self, what: re.Pattern[str], after_s: float = 0.0) -> tuple[float, re.Match[str]]:
        """When the log first had a line after a moment, and the line.

        Raises:
            RuntimeError: it did not come, or the worker ended.
        """
        deadline_s = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline_s and self.process.poll() is None:
            for at_s, line in list(self.lines):
                if at_s >= after_s and (found := what.search(line)) is not None:
                    return at_s, found
            time.sleep(0.02)
        raise RuntimeError(f"no line like {what.pattern} in:\n" + "\n".join(line for _, line in self.lines[-20:]))

    def kill(self) -> float:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return time.monotonic()


def main(pairs: int = 50_000, times: int = 5) -> None:
    """Print each time, and the medians."""
    rows: list[tuple[float, ...]] = []
    with kafka.start(partitions=case.PARTITIONS) as broker, tempfile.TemporaryDirectory() as folder:
        settings = load_settings({}, {"bootstrap": broker.bootstrap})
        chosen = case.pipeline(f"takeover-{int(time.time())}")
        file = Path(folder) / "pipeline.yaml"
        file.write_text(dump_pipeline(chosen))
        asyncio.run(topic.create(chosen, settings, partitions=case.PARTITIONS, shards=1, retention_ms=-1))
        asyncio.run(RowSender(chosen, settings, label_delay_ms=case.LABEL_DELAY_MS).run(case.samples(pairs)))
        workers = [Worker(file, broker.bootstrap)]
        try:
            workers[-1].until(RECOVERED)
            for _ in range(times):
                joined_s = time.monotonic()
                pair = [workers[-1], Worker(file, broker.bootstrap)]
                workers.append(pair[1])
                shares = [one.until(ASSIGNED, joined_s)[1][1] for one in pair]  # the group may give it to the new one
                here, holder = sorted(pair, key=lambda one: shares[pair.index(one)] == "0")
                if holder is pair[1]:
                    holder.until(RECOVERED)
                killed_s = holder.kill()
                workers.remove(holder)
                assigned_s, _ = here.until(ASSIGNED, killed_s)
                recovered_s, found = here.until(RECOVERED, killed_s)
                whole_s, snapshot_s, _, records = map(float, found.groups())
                opened_s = (recovered_s - assigned_s) - whole_s
                row = (
                    recovered_s - killed_s,
                    assigned_s - killed_s,
                    max(opened_s, 0.0),
                    snapshot_s,
                    whole_s - snapshot_s,
                )
                rows.append(row)
                print(_text(row) + f" ({records:,.0f} records replayed)", flush=True)
        finally:
            for worker in workers:
                worker.kill()
    print("median: " + _text(tuple(map(median, zip(*rows, strict=True)))))
    print(f"worst: {max(row[0] for row in rows):.1f} s")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _text(row: tuple[float, ...]) -> str:
    total, group, before, snapshot, rest = row
    return (
        f"SIGKILL to ready elsewhere {total:.1f} s = group {group:.1f} + before {before:.1f} + snapshot {snapshot:.1f} "
        f"+ producer and replay {rest:.1f}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
