"""What the journal says of a snapshot that no key vouches for.

A manifest names the entry that its state follows, and further what an intruder could wish: other positions, so that
records are passed over or read twice; another epoch, or topics that are not there, so that each start stops. So the
journal is read backwards from that entry: the entries say where their inputs ended, a note (at most some seconds
away) where all inputs stood, and an epoch under what all of it was folded. Whoever may write the journal too can do
worse, and needs no snapshot for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from driftline.codec.journal import EpochEntry, Link, SliceEntry, decode_link, follows
from driftline.codec.manifest import Manifest
from driftline.core.error import InputLostError, InvariantError, SnapshotError
from driftline.transport.port import Broker, Place

READ_RECORDS_MAX: Final = 1_000
FIRST_ENTRIES: Final = 100  # of the way back: there mostly is a note
ENTRIES_MAX: Final = 20_000  # some seconds; an epoch further back is not looked for


class Standing(Struct):
    """What is known on the way back.

    Args:
        positions: next offset by input, as of the snapshot's entry.
        whole: they are all inputs.
        last: that entry.
        epoch: under which it was written.
    """

    positions: dict[str, int]
    whole: bool = False
    last: Link | None = None
    epoch: EpochEntry | None = None


async def check_standing(broker: Broker, place: Place, manifest: Manifest) -> None:
    """Whether an unsigned manifest says what the journal says.

    Args:
        place: of the journal.

    Raises:
        SnapshotError: it does not, or the journal lacks its entry.
    """
    beginning = (await broker.beginnings([place]))[place]
    entries, found = FIRST_ENTRIES, Standing({})
    while found.epoch is None:
        first = max(beginning, manifest.journal_offset - entries)
        found = _standing(await _links(broker, place, first, manifest.journal_offset + 1), manifest.chain)
        if first == beginning or entries >= ENTRIES_MAX:
            break
        entries = min(20 * entries, ENTRIES_MAX)
    _compare(manifest, found)


async def _links(broker: Broker, place: Place, first: int, stop: int) -> list[Link]:
    """The entries in a part of the journal; what is none is left out."""
    links = []
    reader = broker.reader()
    try:
        await reader.open({place: first})
        while sources := await reader.read(place, READ_RECORDS_MAX, stop):
            for source in sources:
                try:
                    links.append(decode_link(source.value))
                except InvariantError:
                    continue
    except InputLostError as error:
        raise SnapshotError("the journal lacks the entry it follows") from error
    finally:
        await reader.close()
    return links


def _standing(links: Sequence[Link], chain: str) -> Standing:
    """Follow the chain back from the entry that has this one."""
    found = Standing({})
    after: Link | None = None
    for one in reversed(links):
        if one.chain != chain if after is None else not follows(after, one.chain):
            continue
        after, entry = one, one.entry
        found.last = found.last or one
        if isinstance(entry, SliceEntry):
            if not found.whole:
                for name, part in entry.inputs.items():
                    found.positions.setdefault(name, part.stop)
                _take(found, (one.note or {}).get("positions"))
            continue
        _take(found, entry.positions)
        found.epoch = entry
        break
    return found


def _take(found: Standing, positions: object) -> None:
    """Where all inputs stood after an entry; what came after it is known."""
    if found.whole or not isinstance(positions, dict):
        return
    for name, offset in positions.items():
        found.positions.setdefault(name, offset)
    found.whole = True


def _compare(manifest: Manifest, found: Standing) -> None:
    last, epoch = found.last, found.epoch
    if last is None:
        raise SnapshotError("the journal lacks the entry it follows")
    entry = last.entry
    slices = (entry.number, entry.epoch) if isinstance(entry, SliceEntry) else (entry.slice_number, entry.number)
    if slices != (manifest.slice_number, manifest.epoch):
        raise SnapshotError("it counts slices or epochs otherwise than the journal")
    other = {name for name, offset in found.positions.items() if manifest.positions.get(name) != offset}
    if found.whole:
        other |= manifest.positions.keys() - found.positions.keys()
    if other:
        raise SnapshotError(f"it continues {min(other)[:100]!r} from another offset than the journal")
    if epoch is None:
        return
    if manifest.pipeline.get("shards") != epoch.pipeline.get("shards"):
        raise SnapshotError("it is of another number of shards than the journal")
    if (manifest.topics or {}) != (epoch.topics or {}) or (manifest.outputs or {}) != (epoch.outputs or {}):
        raise SnapshotError("it names other topics than the journal")
