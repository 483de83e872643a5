"""A pipeline with its topics on a broker, and the commands of one who works with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from driftline.core.pipeline import Pipeline
from driftline.kafka.topic import create
from tests.support.command import Worker
from tests.support.stream import Rows, check_exact, pipeline_file, pipeline_of, settings_of, until_written

PARTITIONS = 2


class Site:
    """A pipeline of rows.

    Attributes:
        drained_s: how long a worker may take for all rows.
    """

    drained_s: ClassVar[float] = 60.0

    def __init__(self, bootstrap: str, folder: Path, name: str, rows: Rows, **sections: Any) -> None:
        self.bootstrap, self.folder, self.rows = bootstrap, folder, rows
        self.file = pipeline_file(folder, name, rows, **sections)
        self.pipeline: Pipeline = pipeline_of(self.file)

    def create(self, partitions: int = PARTITIONS) -> None:
        """Make the topics."""
        asyncio.run(create(self.pipeline, settings_of(self.bootstrap), partitions=partitions, shards=partitions))

    def sending(self, file: Path | None = None) -> Sequence[str | Path]:
        """The command that sends a file, the rows by default."""
        where = ("-p", self.file, "--bootstrap", self.bootstrap, "--input", file or self.rows.path)
        return ("produce", *where, "--label", self.rows.label)

    def worker(self, *flags: str) -> Worker:
        return Worker(self.file, self.bootstrap, self.folder, *flags)

    def until_joined(self, count: int) -> None:
        asyncio.run(until_written(self.bootstrap, self.pipeline.topics.outcomes, count, self.drained_s))

    def check_exact(self, count: int) -> None:
        asyncio.run(check_exact(self.bootstrap, self.pipeline, range(count)))
