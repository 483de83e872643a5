"""A model file being loaded into a shard: its parts arrive as commands, are joined and checked.

Whatever changes a shard stands in its topics, or nothing could be replayed from them. So a model file travels in the
control topic itself, in parts of a bounded size; the part that makes it whole is where the model changes, at a
journaled position like any command. Until then the parts are state of the shard: they are in its snapshots.

Nothing but the whole file of one load is ever handed on:

* each load has a name of its own, and every part says the size and the SHA-256 of the whole: parts of two loads never
  meet, and a part that was changed or is missing is found out;
* the load that was begun last wins, on every shard alike: it puts away what was there of an earlier one (a sender that
  died halfway, a second operator), and parts of earlier ones that still come are refused;
* one that is not whole within `WITHIN_MS` of event time is given up;
* at most `SIZE_MAX` bytes are kept, of one load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

from driftline.core.record import Chunk
from driftline.core.shard.command import Refused

SIZE_MAX = 64 * 1024 * 1024
CHUNK_MAX = 512 * 1024
PART_BYTES = 256 * 1024  # of the parts that we send; 350 kB as base64 in JSON: far below what any broker takes
CHUNKS_MAX = 4_096
WITHIN_MS = 86_400_000

How: TypeAlias = Literal["under way", "whole", "damaged", "given up"]


_ENDS: Mapping[How, str] = {"whole": "it was complete", "damaged": "it was damaged", "given up": "it was abandoned"}


class Loading:
    """The latest load of one shard.

    Attributes:
        load: its name; empty before the first.
        how: what has become of it.
        superseded: loads that were put away because another was begun after them.
    """

    def __init__(self) -> None:
        self.load = ""
        self.how: How = "whole"
        self.superseded = 0
        self._first: Chunk | None = None
        self._parts: dict[int, bytes] = {}
        self._size = 0
        self._until_ms = 0

    @property
    def deadline_ms(self) -> int | None:
        """When what is there will be given up; None where nothing waits."""
        return self._until_ms if self.how == "under way" else None

    @property
    def progress(self) -> tuple[int, int] | None:
        """Parts that are there, and how many there will be; None where nothing waits."""
        return None if self._first is None else (len(self._parts), self._first.count)

    def take(self, chunk: Chunk, now_ms: int) -> bytes | Refused | None:
        """Take in a part.

        Returns:
            The whole file, if this part makes it whole; why the part is of no use; or None.
        """
        if chunk.load < self.load:
            return Refused("load_over", f"load {chunk.load} was superseded by {self.load}")
        if chunk.load > self.load:
            self._begin(chunk, now_ms)
        elif self.how != "under way":
            return Refused("load_over", f"load {chunk.load} has ended ({_ENDS[self.how]}); load the model again")
        return self._add(chunk)

    def _begin(self, chunk: Chunk, now_ms: int) -> None:
        if self.how == "under way":
            self.superseded += 1
        self._put_away("under way")
        self.load, self._until_ms = chunk.load, now_ms + WITHIN_MS
        self._first = Chunk(chunk.load, 0, chunk.count, chunk.size_bytes, chunk.sha256, b"")

    def _add(self, chunk: Chunk) -> bytes | Refused | None:
        first, parts = self._first, self._parts
        same = (chunk.count, chunk.size_bytes, chunk.sha256)
        if first is None or same != (first.count, first.size_bytes, first.sha256):
            return Refused("load_mixed", f"load {chunk.load}: this part belongs to another file than the first one")
        there = parts.get(chunk.number)
        if there is not None:  # a sender may repeat what it has no answer to
            if there == chunk.content:
                return None
            return Refused("load_mixed", f"load {chunk.load}: part {chunk.number} already arrived with other content")
        parts[chunk.number] = chunk.content
        self._size += len(chunk.content)
        if self._size <= first.size_bytes and len(parts) < first.count:
            return None
        whole = b"".join([parts[number] for number in sorted(parts)])
        if len(whole) == first.size_bytes and hashlib.sha256(whole).hexdigest() == first.sha256:
            self._put_away("whole")
            return whole
        self._put_away("damaged")
        detail = f"load {chunk.load}: the parts do not make up the file they name; the model stays. Load it again"
        return Refused("load_damaged", detail)

    def _put_away(self, how: How) -> None:
        self.how, self._first, self._parts, self._size = how, None, {}, 0

    def expire(self, now_ms: int) -> tuple[int, int] | None:
        """Give up what is not whole in time; returns how far it was, if there was something."""
        progress = self.progress
        if self.how != "under way" or now_ms < self._until_ms:
            return None
        self._put_away("given up")
        return progress

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what came before counts from now on."""
        self._until_ms += time_ms

    def forget(self) -> None:
        """Put away what is there; also loads that were begun before it may come again."""
        self._put_away("given up")
        self.load = ""
