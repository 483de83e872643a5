"""Saves the state of every shard to a file, from the topics alone: workers may run in the meantime.

Each shard's state is derived as recovery derives it, up to where the journal ended when it was looked at. Where that
cannot be done here (inputs that the journal names are gone, or these versions cannot read the snapshot), the newest
whole snapshot is copied as it is, unread.

Memory: one shard's state.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from msgspec import structs

from driftline.codec.keyring import KeyRing
from driftline.codec.manifest import Manifest, Row
from driftline.codec.state import FORMAT, KIND, SavedShard, StateFile, encode_line
from driftline.core.error import InputFileError, InvariantError, RecoveryError
from driftline.core.pipeline import Pipeline
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import Frozen
from driftline.engine.recovered import Recovered
from driftline.engine.recovery import Recovery
from driftline.engine.restored import Pieces, with_head
from driftline.transport.clock import REAL, Clock
from driftline.transport.port import Broker, Place

COPY_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Saved:
    """What was saved of a shard.

    Args:
        shard: None where it has no state: it never worked.
        unread: why its newest snapshot was copied as it is; empty where the journal was followed to its end.
    """

    partition: int
    shard: SavedShard | None
    unread: str = ""


class _Derivation(Recovery):
    """A recovery that only looks, and ends where the journal ended when it began."""

    async def derive(self) -> Recovered:
        journal = Place(self._pipeline.topics.journal, self._partition)
        self._journal_stop = (await self._broker.ends([journal]))[journal]
        return await self.run()

    async def newest(self) -> tuple[Manifest, Sequence[Row], Frozen] | None:
        """The newest whole snapshot, of whatever versions, with its index."""
        for manifest, frozen in await self._snapshots():
            if manifest.partition == self._partition:
                return manifest, self._shelf.rows[manifest.slot], frozen
        return None


async def save(
    broker: Broker, pipeline: Pipeline, shards: int, ring: KeyRing, path: Path, clock: Clock = REAL
) -> list[Saved]:
    """Write the state file.

    Raises:
        BrokerError: Kafka cannot be reached.
        InputFileError: the file cannot be written.
        RecoveryError: no shard has a state.
    """
    bodies = path.with_name(path.name + ".part")
    try:
        with bodies.open("wb") as stream:
            found = [await _save_shard(broker, pipeline, number, ring, stream, clock) for number in range(shards)]
        states = [one.shard for one in found if one.shard is not None]
        if not states:
            raise RecoveryError(
                f"no shard of {pipeline.name} has a state: journal and snapshots are empty. There is "
                "nothing to save until a worker has processed records"
            )
        file = StateFile(KIND, FORMAT, pipeline.name, shards, int(clock.wall_s() * 1000), states)
        _compose(path, encode_line(file, ring), bodies)
    except OSError as error:
        raise InputFileError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            bodies.unlink(missing_ok=True)
    return found


def _compose(path: Path, line: bytes, bodies: Path) -> None:
    """The whole file at once: what was there before stays until it is complete."""
    whole = path.with_name(path.name + ".new")
    try:
        with whole.open("wb") as stream, bodies.open("rb") as rest:
            stream.write(line)
            shutil.copyfileobj(rest, stream, COPY_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
        whole.replace(path)
    finally:
        with suppress(OSError):
            whole.unlink(missing_ok=True)


async def _save_shard(
    broker: Broker, pipeline: Pipeline, partition: int, ring: KeyRing, stream: IO[bytes], clock: Clock
) -> Saved:
    derivation = _Derivation(broker, pipeline, partition, ring)
    try:
        state = await derivation.derive()
    except (RecoveryError, InvariantError) as error:
        kept = await derivation.newest()
        if kept is None:
            raise
        return Saved(partition, _copied(*kept, stream), str(error))
    if state.folder is None or state.epoch is None:
        return Saved(partition, None)
    shard = state.folder.shard
    taken_ms = int(clock.wall_s() * 1000)
    manifest = state.manifest((state.journal_offset, state.chain), shard.pipeline.resolved(), taken_ms)
    return Saved(partition, _written(shard, manifest, stream))


def _written(shard: Shard, manifest: Manifest, stream: IO[bytes]) -> SavedShard:
    pieces = Pieces(shard)
    _write(stream, (value for _, value in pieces.parts()))
    manifest, head = pieces.head(manifest)
    stream.write(head)
    return SavedShard(manifest, shard.summary())


def _copied(manifest: Manifest, rows: Sequence[Row], frozen: Frozen, stream: IO[bytes]) -> SavedShard:
    """A snapshot as it is: none of it is unpickled."""
    for body, marks in frozen.segments:
        _write(stream, body)
        _write(stream, marks)
    manifest, head = with_head(structs.replace(manifest, before="", signature=""), rows, frozen.rest)
    stream.write(head)
    return SavedShard(manifest, {})


def _write(stream: IO[bytes], values: Iterable[bytes]) -> None:
    for value in values:
        stream.write(value)
