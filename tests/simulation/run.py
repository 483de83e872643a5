"""Runs one scenario and says what is wrong with it."""

from __future__ import annotations

import hashlib

from msgspec import Struct

from tests.simulation.judge import judge
from tests.simulation.scenario import Scenario, draw
from tests.simulation.world import World
from tests.support.segment import segments_of


class Verdict(Struct, frozen=True):
    """What came of one run.

    Args:
        violations: what is not as it was promised; none when all is well.
        trace: every moment, if it was asked for.
        digest: over the trace and the topics; the same for the same scenario, always and everywhere.
        reached: which faults struck, and how often.
    """

    violations: list[str]
    trace: list[tuple[float, str, str]]
    digest: str
    reached: dict[str, int]
    simulated_s: float


def run(scenario: Scenario, *, traced: bool = False) -> Verdict:
    world = World(scenario, traced=traced)
    with segments_of(2 if scenario.narrow else 4):
        try:
            world.run()
            violations = judge(world)
        finally:
            world.bury()
    trace = world.trace or []
    return Verdict(violations, trace, _digest(world), dict(world.reached), world.loop.time())


def run_seed(seed: int, *, traced: bool = False) -> Verdict:
    return run(draw(seed), traced=traced)


def _digest(world: World) -> str:
    """Over all that happened, but the bytes of snapshots: equal states differ there between processes."""
    snapshots = world.pipeline.topics.snapshots
    digest = hashlib.blake2b(digest_size=16)
    for line in world.trace or ():
        digest.update(repr(line).encode())
    for place, log in sorted(world.cluster.logs.items()):
        digest.update(repr(place).encode())
        for entry in log.entries:
            source = entry.source if place.topic != snapshots else entry.source.offset
            digest.update(repr((source, entry.marker)).encode())
    return digest.hexdigest()
