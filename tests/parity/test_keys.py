"""A model survives a key that is set, rotated or taken away, with inputs that retention has cut; and without the key
nobody writes a journal entry that is accepted."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest
from msgspec import structs

from driftline.codec.journal import CHAIN_START, Entry, EpochEntry, chain_of, decode_link, encode_link, link
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.seal import has_seal, is_current, seal
from driftline.codec.write import Write
from driftline.core.error import UnsignedStateError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.engine import trust as trust_module
from driftline.engine.start import Start
from driftline.engine.trust import Ancestry, Behind, Trust, Unsigned, name_of
from driftline.operate.verify import Span, audit_shards
from driftline.transport.port import Place
from tests.parity.rig import Death, Life, check_exact, epochs, pipeline, produce, state, tamper
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker
from tests.support.state import FromTheBeginning

COUNT = 300
OLD, NEW = b"the key of last year", b"the key of this year"
ONE, BOTH, NEXT, LAST = KeyRing((OLD,)), KeyRing((OLD, NEW)), KeyRing((NEW, OLD)), KeyRing((NEW,))


async def work(
    cluster: MemoryCluster, chosen: Pipeline, start: Start, first: int, *, count: int = COUNT, clean: bool = True
) -> bytes:
    """Let a worker take in so many more; returns its state."""
    produce(cluster, chosen, count, first=first)
    async with Life(cluster, chosen, start=start) as life:
        await life.until_done()
        found = state(life.shard())
        await (life.stop() if clean else life.kill())
    return found


async def refused(cluster: MemoryCluster, chosen: Pipeline, start: Start) -> str:
    async with Life(cluster, chosen, start=start) as life:
        error = await life.fails()
    assert isinstance(error, UnsignedStateError)
    return str(error)


async def verified(cluster: MemoryCluster, chosen: Pipeline, ring: KeyRing) -> None:
    broker = MemoryBroker(cluster, chosen, client="audit")
    (made,) = await audit_shards(broker, chosen, Layout(1), Span(outputs=True, ring=ring))
    assert made.difference is None
    assert made.slices > 0


def trim(cluster: MemoryCluster, chosen: Pipeline, count: int) -> None:
    """Retention removes what was folded so far."""
    for topic in (chosen.topics.events, chosen.topics.labels or ""):
        cluster.delete_before(Place(topic, 0), count)


def frequent() -> Pipeline:
    return pipeline("keyed", snapshot={"every_records": 100})


async def lived(start: Start, *, clean: bool = True) -> tuple[MemoryCluster, Pipeline]:
    chosen, cluster = frequent(), MemoryCluster()
    cluster.create_for(chosen, 1)
    await work(cluster, chosen, start, 0, clean=clean)
    return cluster, chosen


async def check_goes_on(cluster: MemoryCluster, chosen: Pipeline, start: Start, first: int) -> None:
    """The model is kept, with what was learned, and goes on to learn."""
    async with Life(cluster, chosen, start=start) as life:
        await life.until_done()
        assert life.shard().counts["learned"] == first
        assert life.shard().evaluation.label_count == first
        await life.kill()
    await work(cluster, chosen, start, first)
    check_exact(cluster, chosen, list(range(first + COUNT)))


async def test_a_key_that_is_set_keeps_the_model_though_inputs_are_gone() -> None:
    cluster, chosen = await lived(Start())
    trim(cluster, chosen, COUNT)
    text = await refused(cluster, chosen, Start(ring=ONE, gap_continue=True))
    assert "--unsigned-state trust" in text
    await check_goes_on(cluster, chosen, Start(ring=ONE, unsigned="trust"), COUNT)
    assert [entry.reason for entry in epochs(cluster, chosen)] == ["first", "key"]
    await verified(cluster, chosen, ONE)
    await check_goes_on(cluster, chosen, Start(ring=ONE), 2 * COUNT)  # and without asking again
    await verified(cluster, chosen, ONE)


async def test_a_key_that_rotates_keeps_the_model_though_inputs_are_gone() -> None:
    cluster, chosen = await lived(Start(ring=ONE))
    first = COUNT
    for ring, reasons in ((BOTH, []), (NEXT, ["key"]), (LAST, [])):
        trim(cluster, chosen, first)
        before = len(epochs(cluster, chosen))
        await check_goes_on(cluster, chosen, Start(ring=ring), first)
        first += COUNT
        assert [entry.reason for entry in epochs(cluster, chosen)[before:]] == reasons
        await verified(cluster, chosen, ring)


async def test_a_key_that_is_lost() -> None:
    cluster, chosen = await lived(Start(ring=ONE))
    trim(cluster, chosen, COUNT)
    text = await refused(cluster, chosen, Start(ring=LAST))
    assert "NEW,OLD" in text
    await check_goes_on(cluster, chosen, Start(ring=LAST, unsigned="trust"), COUNT)
    await verified(cluster, chosen, LAST)


async def test_a_key_that_is_taken_away_and_set_again() -> None:
    cluster, chosen = await lived(Start(ring=ONE))
    trim(cluster, chosen, COUNT)
    text = await refused(cluster, chosen, Start())
    assert "set DRIFTLINE_SNAPSHOT_KEY" in text
    await check_goes_on(cluster, chosen, Start(unsigned="trust"), COUNT)
    await check_goes_on(cluster, chosen, Start(), 2 * COUNT)
    await verified(cluster, chosen, NO_KEYS)
    trim(cluster, chosen, 3 * COUNT)
    assert "not signed" in await refused(cluster, chosen, Start(ring=ONE))
    await check_goes_on(cluster, chosen, Start(ring=ONE, unsigned="trust"), 3 * COUNT)


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_death_while_a_key_is_set_needs_no_second_word_once_anything_is_signed(nth: int) -> None:
    """The signed snapshot goes first, in commits of its own; then the epoch."""
    cluster, chosen = await lived(Start())
    trim(cluster, chosen, COUNT)
    death = Death("commit", nth)
    async with Life(cluster, chosen, hook=death, start=Start(ring=ONE, unsigned="trust"), client="dies") as life:
        produce(cluster, chosen, 5, first=COUNT)
        await life.until_dead(death)
    signed = any(
        (source.key or b"").endswith(b"manifest") and b'"signature":""' not in (source.value or b"")
        for source in cluster.records(chosen.topics.snapshots, 0)
    )
    async with Life(cluster, chosen, start=Start(ring=ONE, unsigned="refuse" if signed else "trust")) as life:
        await life.until_done()
        assert life.shard().counts["learned"] == COUNT + 5


async def test_every_entry_is_sealed() -> None:
    cluster, chosen = await lived(Start(ring=ONE))
    place = Place(chosen.topics.journal, 0)
    values = [source.value or b"" for source in cluster.records(*place)]
    assert all(is_current(value, name_of(place), ONE) for value in values)
    assert not any(is_current(value, "p.journal-1", ONE) for value in values), "nor is it of another shard"


async def test_without_a_key_entries_are_as_they_were() -> None:
    cluster, chosen = await lived(Start())
    assert not any(has_seal(source.value) for source in cluster.records(chosen.topics.journal, 0))


def forged(cluster: MemoryCluster, chosen: Pipeline, ring: KeyRing, at: int = -1) -> None:
    """Append an epoch with a state and a pipeline of a stranger's own, behind the nth entry."""
    place = Place(chosen.topics.journal, 0)
    before = decode_link(cluster.records(*place)[at].value)
    first = epochs(cluster, chosen)[0]
    entry: EpochEntry = structs.replace(first, number=9, state="fresh", reason="reset")
    value = seal(encode_link(link(entry, before.chain)), name_of(place), ring)
    cluster.append(place, [Write(*place, None, value)])


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("ring", [NO_KEYS, KeyRing((b"a stranger's own key",))], ids=["unsigned", "another key"])
async def test_an_entry_of_one_without_the_key_is_never_accepted(ring: KeyRing, delivery: str) -> None:
    chosen, cluster = pipeline("keyed", delivery=delivery, snapshot={"every_records": 100}), MemoryCluster()
    cluster.create_for(chosen, 1)
    await work(cluster, chosen, Start(ring=ONE), 0)
    forged(cluster, chosen, ring)
    assert "--unsigned-state ignore" in await refused(cluster, chosen, Start(ring=ONE))
    await check_goes_on(cluster, chosen, Start(ring=ONE, unsigned="ignore"), COUNT)
    await check_goes_on(cluster, chosen, Start(ring=ONE), 2 * COUNT)  # what was signed since goes on without it
    await verified(cluster, chosen, ONE)


async def test_what_a_stranger_writes_under_a_running_worker_is_passed_over() -> None:
    chosen, cluster = frequent(), MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen, start=Start(ring=ONE)) as life:
        await life.until_done()
        place = Place(chosen.topics.journal, 0)
        forged(cluster, chosen, NO_KEYS)
        forged(cluster, chosen, NO_KEYS, at=2)
        cluster.append(place, [Write(*place, None, b"rubbish")])
        produce(cluster, chosen, COUNT, first=COUNT)
        await life.until_done()
        await life.kill()
    await check_goes_on(cluster, chosen, Start(ring=ONE), 2 * COUNT)
    await verified(cluster, chosen, ONE)


async def test_what_is_copied_in_the_journal_is_passed_over() -> None:
    """Its own entries once more, sealed as they are, and what cannot be chained."""
    cluster, chosen = await lived(Start(ring=ONE))
    place = Place(chosen.topics.journal, 0)
    entries = [source.value or b"" for source in cluster.records(*place)]
    deep = b'{"pipeline":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b","
    for value in (entries[0], entries[-1], entries[2], entries[0].replace(b"{", deep, 1)):
        cluster.append(place, [Write(*place, None, value)])
    await check_goes_on(cluster, chosen, Start(ring=ONE), COUNT)
    await verified(cluster, chosen, ONE)


async def test_a_first_entry_of_one_without_the_key_is_refused() -> None:
    """Whoever is first at a topic that was just made has no say in what a worker does."""
    chosen, cluster = frequent(), MemoryCluster()
    cluster.create_for(chosen, 1)
    other, chosen_there = await lived(Start())
    place = Place(chosen.topics.journal, 0)
    first = other.records(*place)[0].value or b""
    assert orjson.loads(first)["kind"] == "epoch"
    cluster.append(place, [Write(*place, None, first)])
    assert chosen_there.name == chosen.name
    for unsigned in ("refuse", "ignore"):
        text = await refused(cluster, chosen, Start(ring=ONE, unsigned=unsigned))
        assert "not signed" in text
        assert "ignore" not in text


async def test_a_changed_entry_is_found() -> None:
    cluster, chosen = await lived(Start(ring=ONE), clean=False)
    place = Place(chosen.topics.journal, 0)
    last = cluster.records(*place)[-1]
    changed = (last.value or b"").replace(b'"outputs":', b'"outputs":1')
    assert changed != last.value
    tamper(cluster, place, last.offset, changed)
    broker = MemoryBroker(cluster, chosen, client="audit")
    (made,) = await audit_shards(broker, chosen, Layout(1), Span(outputs=True, ring=ONE))
    assert made.difference is not None


async def test_what_was_written_behind_an_entry_of_the_old_key_leads_the_new_one_nowhere() -> None:
    """A stranger's entry behind one of ours, and more behind that: only what the new key sealed knows which is ours."""
    chosen, cluster = frequent(), MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen, start=Start(ring=ONE)) as life:
        await life.until_done()
        for behind in (-1, -1, 2, 1, -1):
            forged(cluster, chosen, NO_KEYS, at=behind)
        produce(cluster, chosen, COUNT, first=COUNT)
        await life.until_done()
        forged(cluster, chosen, NO_KEYS)
        place = Place(chosen.topics.journal, 0)
        entries = [source.value or b"" for source in cluster.records(*place)]
        for value in (b"rubbish", entries[1], entries[-3], b'{"chain":5,' + entries[0][1:]):
            cluster.append(place, [Write(*place, None, value)])
        produce(cluster, chosen, COUNT, first=2 * COUNT)
        await life.until_done()
        await life.stop()
    await check_goes_on(cluster, chosen, Start(ring=NEXT), 3 * COUNT)
    await verified(cluster, chosen, NEXT)
    await verified(cluster, chosen, LAST)
    recovered = await FromTheBeginning(MemoryBroker(cluster, chosen, client="r"), chosen, 0, LAST).run()
    assert recovered.folder is not None
    assert recovered.folder.shard.evaluation.label_count == 4 * COUNT


@pytest.mark.parametrize("unsigned", ["trust", "refuse"])
async def test_a_journal_without_a_seal_is_looked_through_once(
    unsigned: Unsigned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each of its entries."""
    cluster, chosen = await lived(Start())
    looks = []
    look = Trust.look_ahead

    async def counted(self: Trust, start: int, chain: str, reached: Mapping[type[Entry], int]) -> bool:
        looks.append(start)
        return await look(self, start, chain, reached)

    monkeypatch.setattr(Trust, "look_ahead", counted)
    recovery = FromTheBeginning(MemoryBroker(cluster, chosen, client="r"), chosen, 0, ONE, unsigned=unsigned)
    if unsigned == "refuse":
        with pytest.raises(UnsignedStateError):
            await recovery.run()
    else:
        assert (await recovery.run()).progress.slices > 3
    assert looks == [0]


def test_the_way_back_takes_work_in_proportion_to_what_is_shown() -> None:
    """Of entries that claim one chain, whichever were written between; the search is given up beyond a bound."""
    first = Behind(0, CHAIN_START, b"first")
    second = Behind(1, chain_of(first.chain, b"second"), b"second")
    third = chain_of(second.chain, b"third")
    ancestry = Ancestry(Behind(9, third, b"third"))
    for number in range(100):
        ancestry.see(Behind(8, second.chain, b"forged %d" % number))
        ancestry.see(Behind(7, f"{number:032x}", b"of no use"))
    for one in (Behind(6, second.chain, b"second"), second, first):
        ancestry.see(one)
    assert ancestry.chain == first.chain
    assert list(ancestry.offsets) == [9, 1], "the first of two copies"


@pytest.mark.parametrize("piece", [3, 10_000])
@pytest.mark.parametrize("size", [1, 10**9])
async def test_the_way_back_is_read_in_pieces(piece: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_module, "PIECE_OFFSETS", piece)
    monkeypatch.setattr(trust_module, "PIECE_BYTES", size)
    cluster, chosen = await lived(Start(ring=ONE))
    place = Place(chosen.topics.journal, 0)
    trust = Trust(MemoryBroker(cluster, chosen, client="r"), place, ONE, "refuse", None)
    offsets = [source.offset for source in cluster.records(*place)]
    back = [one.offset async for one in trust.backwards(2, offsets[-1])]
    assert back == [offset for offset in reversed(offsets) if 2 <= offset < offsets[-1]]
