"""What a recovery knows of a shard, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from driftline.codec.journal import CHAIN_START, EpochEntry
from driftline.codec.manifest import RESTORED, Manifest
from driftline.core.error import InvariantError
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.state.migration import FORMAT
from driftline.engine.fold import Folder
from driftline.engine.snapshot import Shelf


@dataclass
class Progress:
    """How far a recovery is."""

    slices: int = 0
    records: int = 0
    unverifiable: int = 0
    journal_offset: int = -1
    snapshot_s: float = 0.0  # to read it, and to make a state of it


@dataclass
class Recovered:
    """What is known of a shard.

    Args:
        folder: holds the shard; None when nothing was ever journaled, or nothing was to be folded.
        epoch: the epoch that the journal is in.
        chain, slice_number: of the last entry.
        journal_offset: of the last record in the journal, -1 without one.
        slot: the snapshot slot to write next.
        positions: next offset by input.
        shelf: what the snapshots topic holds.
        entry_offset: of the last entry, which is not the last record where others wrote to the journal.
        current: the last entry is sealed as this worker seals, or there is none.
        stands_behind: offset and chain of the last entry that was followed: the one whose state the folder has, also
            where the recovery broke off at the next.
    """

    folder: Folder | None
    epoch: EpochEntry | None
    chain: str
    slice_number: int
    journal_offset: int
    slot: int
    progress: Progress
    positions: dict[str, int] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)
    entry_offset: int = -1
    current: bool = True
    stands_behind: tuple[int, str] = (-1, CHAIN_START)

    def manifest(self, behind: tuple[int, str], document: dict[str, Any], taken_ms: int) -> Manifest:
        """A manifest of this state that does not name its bytes yet (`restored.with_head` adds them).

        Args:
            behind: offset and chain of the last journal entry in it.
            document: the pipeline that it is of.

        Raises:
            InvariantError: there is no state.
        """
        if self.folder is None or self.epoch is None:
            raise InvariantError("a manifest needs a state")
        return Manifest(
            format=FORMAT,
            slot=RESTORED,
            partition=self.folder.shard.number,
            journal_offset=behind[0],
            chain=behind[1],
            slice_number=self.slice_number,
            epoch=self.epoch.number,
            positions=dict(self.positions),
            chunks=0,
            size_bytes=0,
            digest="",
            pipeline=document,
            versions=versions(),
            arithmetic=arithmetic_fingerprint(),
            taken_ms=taken_ms,
        )
