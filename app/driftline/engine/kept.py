"""What one partition of the snapshots topic holds, by key, with as little of it in memory as is needed.

Whoever may write to the topic can put anything there. So of each key only the place of its newest record is kept, of a
bounded number of keys, and values for as long as they are few: those that a manifest names are read when it is known
that they are named, and most topics are read once all the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Set
from contextlib import aclosing

from driftline.core.record import Source
from driftline.transport.port import Place, Reader

AT_ONCE = 100
HOLD_BYTES = 128 * 1024 * 1024  # of values, before it is known which are named
KEYS_MAX = 200_000  # at two for each 512 kB of a state
KEY_BYTES_MAX = 100


class Kept:
    """See the module.

    Args:
        reader: makes one, which is opened here.
        prefixes: other keys are skipped.
        at_once: records that are read together.
    """

    def __init__(self, reader: Callable[[], Reader], place: Place, *prefixes: bytes, at_once: int = AT_ONCE) -> None:
        self._reader = reader
        self._place = place
        self._prefixes = prefixes
        self._at_once = at_once
        self._places: dict[bytes, int] = {}
        self._values: dict[bytes, bytes] = {}
        self._room = HOLD_BYTES

    @property
    def keys(self) -> Set[bytes]:
        """Of everything that is there."""
        return self._places.keys()

    @property
    def held_bytes(self) -> int:
        """Of the values that are in memory."""
        return sum(map(len, self._values.values()))

    async def look(self, start: int) -> None:
        """Look through the topic.

        Raises:
            InputLostError: it begins behind `start`.
        """
        async with aclosing(self._read(start, None)) as sources:
            async for source in sources:
                key = source.key
                if key is None or len(key) > KEY_BYTES_MAX or not key.startswith(self._prefixes):
                    continue
                self._room += len(self._values.pop(key, b""))
                if source.value is None:
                    self._places.pop(key, None)
                elif key in self._places or len(self._places) < KEYS_MAX:
                    self._places[key] = source.offset
                    if len(source.value) <= self._room:
                        self._values[key] = source.value
                        self._room -= len(source.value)

    async def values(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of these keys, as far as they are there."""
        wanted = [key for key in keys if key in self._places]
        found = {key: self._values[key] for key in wanted if key in self._values}
        missing = {key: self._places[key] for key in wanted if key not in found}
        if missing:
            async with aclosing(self._read(min(missing.values()), max(missing.values()) + 1)) as sources:
                async for source in sources:
                    if source.key in missing and source.value is not None:
                        found[source.key] = source.value
        return found

    async def _read(self, start: int, stop: int | None) -> AsyncGenerator[Source, None]:
        reader = self._reader()
        try:
            await reader.open({self._place: start})
            while sources := await reader.read(self._place, self._at_once, stop):
                for source in sources:
                    yield source
        finally:
            await reader.close()
