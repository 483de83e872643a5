"""Commands: with a key only what it signed is taken, once and in its time; and a replay needs neither key nor clock."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from driftline.codec.command import Sender, encode_command
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.parts import parts
from driftline.core.pipeline import Pipeline
from driftline.engine.gate import AGE_MAX_MS, AHEAD_MAX_MS
from driftline.engine.start import Start
from tests.parity.rig import NOW_MS, Life, check_replay, documents, pipeline, produce, state
from tests.support.cluster import MemoryCluster
from tests.support.trained import model_file

KEY, OTHER = KeyRing((b"a key that this deployment has",)), KeyRing((b"a stranger's own key",))
START = Start(ring=KEY)
SLACK_MS = 60_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def sender(nonce: int = 1, *, pipeline: str = "commanded", by: str = "ann", ago_ms: int = 0) -> Sender:
    return Sender(pipeline, by, now_ms() - ago_ms, f"{nonce:032x}")


def freeze(ring: KeyRing = KEY, command: str = "freeze", **about: Any) -> bytes:
    return encode_command({"command": command}, sender(**about), ring)


def give(cluster: MemoryCluster, chosen: Pipeline, *values: bytes) -> None:
    for value in values:
        cluster.produce(chosen.topics.control, 0, value, NOW_MS)


def refusals(cluster: MemoryCluster, chosen: Pipeline) -> list[tuple[str, str]]:
    """Reason and detail of each rejected record."""
    found = []
    for source in cluster.records(chosen.topics.rejected, 0):
        headers = {name: (value or b"").decode() for name, value in source.headers}
        found.append((headers["driftline.reason"], headers["driftline.detail"]))
    return found


def made() -> tuple[MemoryCluster, Pipeline]:
    chosen, cluster = pipeline("commanded"), MemoryCluster()
    cluster.create_for(chosen, 1)
    return cluster, chosen


async def check_without_key_or_clock(cluster: MemoryCluster, chosen: Pipeline, life: Life) -> None:
    """`check_replay` has neither key nor gate."""
    await check_replay(cluster, chosen, life)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b'{"command":"freeze"}', "not signed with a key"),
        (freeze(NO_KEYS), "not signed with a key"),
        (freeze(OTHER), "not signed with a key"),
        (freeze().replace(b'"freeze"', b'"reset"'), "not signed with a key"),
        (freeze(pipeline="another"), "for pipeline 'another'"),
        (freeze(ago_ms=-AHEAD_MAX_MS - 86_400_000), "ahead of this worker's clock"),  # made long before it runs, maybe
        (freeze(ago_ms=AGE_MAX_MS + SLACK_MS), "more than 7 days ago"),
        (encode_command({"command": "freeze"}, Sender("commanded", "", 0, ""), KEY), "lacks pipeline, nonce"),
    ],
)
async def test_with_a_key_a_command_of_another_kind_is_refused(value: bytes, says: str) -> None:
    cluster, chosen = made()
    give(cluster, chosen, value)
    produce(cluster, chosen, 50)
    async with Life(cluster, chosen, start=START) as life:
        await life.until_done()
        assert not life.shard().frozen
        assert life.shard().commands.values() == []
        ((reason, detail),) = refusals(cluster, chosen)
        assert (reason, says in detail) == ("control_refused", True), detail
        await check_without_key_or_clock(cluster, chosen, life)


async def test_a_signed_command_is_taken_once() -> None:
    cluster, chosen = made()
    first, second = freeze(), freeze(command="unfreeze", nonce=2, by="ben")
    give(cluster, chosen, first, second, first)
    async with Life(cluster, chosen, start=START) as life:
        await life.until_done()
        assert not life.shard().frozen, "what a stranger sends again is not taken again"
        assert [(one["command"], one["by"]) for one in life.shard().summary()["commands"]] == [
            ("freeze", "ann"),
            ("unfreeze", "ben"),
        ]
        await check_without_key_or_clock(cluster, chosen, life)
        await life.stop()
    give(cluster, chosen, first)
    async with Life(cluster, chosen, start=START) as life:  # from a snapshot
        await life.until_done()
        assert not life.shard().frozen
    assert [reason for reason, _ in refusals(cluster, chosen)] == ["control_repeated"] * 2


async def test_a_command_of_before_is_not_taken_by_a_state_that_began_anew() -> None:
    cluster, chosen = made()
    command = freeze(ago_ms=1_000)
    give(cluster, chosen, command)
    async with Life(cluster, chosen, start=START) as life:
        await life.until_done()
        assert life.shard().frozen
        await life.stop()
    give(cluster, chosen, command)
    async with Life(cluster, chosen, start=Start(ring=KEY, reset_state=True)) as life:
        await life.until_done()
        assert not life.shard().frozen
        held = state(life.shard())
        await life.kill()
    async with Life(cluster, chosen, start=START) as life:
        await life.until_done()
        assert state(life.shard()) == held


def load(chosen: Pipeline, ring: KeyRing, nonce: int = 1, *, ago_ms: int = 0) -> list[bytes]:
    """A load whose file the deployment's key signed, in commands that another may have."""
    about = sender(nonce, ago_ms=ago_ms)
    content = model_file(chosen, key=KEY)
    return list(parts(content, f"{about.sent_ms:013d}-0000000{nonce}", 900, sender=about, ring=ring))


async def test_an_old_load_cannot_be_repeated() -> None:
    cluster, chosen = made()
    cut = load(chosen, KEY)
    give(cluster, chosen, *cut, freeze(command="reset", nonce=9), *cut)
    async with Life(cluster, chosen, start=START) as life:
        await life.until_done()
        assert life.shard().learner.generation == 2, "the load and the reset; not the load once more"
        await check_without_key_or_clock(cluster, chosen, life)
    assert {reason for reason, _ in refusals(cluster, chosen)} == {"control_repeated"}


@pytest.mark.parametrize("ring", [KEY, NO_KEYS], ids=["with a key", "without"])
async def test_a_load_of_the_far_future_does_not_block_the_operators_own(ring: KeyRing) -> None:
    """Not even where there is no key, and models are taken from anybody."""
    cluster, chosen = made()
    ahead = load(chosen, KEY, 8, ago_ms=-AHEAD_MAX_MS - SLACK_MS)
    unnamed = list(parts(model_file(chosen, key=KEY), "9999999999999-00000000", 900))
    give(cluster, chosen, ahead[0], unnamed[0], *load(chosen, ring, 2))
    async with Life(cluster, chosen, start=Start(ring=ring, unsigned_models=True)) as life:
        await life.until_done()
        assert life.shard().learner.generation == 1
        assert life.shard().loading.superseded == 0
        await check_without_key_or_clock(cluster, chosen, life)
    assert [reason for reason, _ in refusals(cluster, chosen)] == ["control_refused"] * 2


async def test_without_a_key_models_are_refused_unless_the_worker_says_otherwise() -> None:
    cluster, chosen = made()
    give(cluster, chosen, *load(chosen, NO_KEYS))
    produce(cluster, chosen, 20)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.shard().learner.generation == 0
        await life.kill()
    assert {reason for reason, _ in refusals(cluster, chosen)} == {"control_refused"}
    assert "--accept-unsigned-models" in refusals(cluster, chosen)[0][1]
    give(cluster, chosen, *load(chosen, NO_KEYS, 2))
    async with Life(cluster, chosen, start=Start(unsigned_models=True)) as life:
        await life.until_done()
        assert life.shard().learner.generation == 1, "what was refused stays so, what is taken is"
        await life.kill()
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.shard().learner.generation == 1, "and a replay keeps it"
        await check_without_key_or_clock(cluster, chosen, life)


async def test_hand_written_commands_are_taken_where_there_is_no_key() -> None:
    cluster, chosen = made()
    give(cluster, chosen, b'{"command":"freeze"}', b'{"command":"freeze","by":7,"nonce":"x","sent_ms":-1}')
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.shard().frozen
        assert life.shard().counts["control_freeze"] == 2
    assert refusals(cluster, chosen) == []


async def test_a_load_names_its_sender_in_the_alert() -> None:
    cluster, chosen = made()
    give(cluster, chosen, *load(chosen, KEY))
    async with Life(cluster, chosen, start=START) as life:
        await life.until_done()
    (alert,) = documents(cluster, chosen.topics.alerts)
    assert alert["evidence"]["by"] == "ann"
    assert "A command from ann" in alert["sentence"]


async def test_a_flood_of_forged_commands_is_refused_and_replays() -> None:
    cluster, chosen = made()
    give(cluster, chosen, *(freeze(OTHER, nonce=number) for number in range(500)), freeze(nonce=1_000))
    async with Life(cluster, chosen, start=START) as life:
        await life.until_done()
        assert life.shard().frozen
        assert life.shard().counts["rejected_control_refused"] == 500
        await check_without_key_or_clock(cluster, chosen, life)
    assert len(orjson.dumps(refusals(cluster, chosen))) > 0
