"""Cuts a failing scenario down: faults one by one, then workers, then records, as long as it still fails."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from msgspec import structs

from tests.simulation.run import run
from tests.simulation.scenario import Scenario

RUNS_MAX = 300


def violations_of(scenario: Scenario) -> list[str]:
    try:
        return run(scenario).violations
    except Exception:  # noqa: BLE001 - the simulator's own fault is a failure to be cut down too
        return [traceback.format_exc()]


def minimise(scenario: Scenario) -> tuple[Scenario, list[str]]:
    """The smallest scenario found that still fails, and how it does. Whatever fails counts, also in another way."""
    violations = violations_of(scenario)
    runs = 0
    found = True
    while found and runs < RUNS_MAX:
        found = False
        for smaller in _smaller(scenario):
            runs += 1
            if runs > RUNS_MAX:
                break
            if failing := violations_of(smaller):
                scenario, violations, found = smaller, failing, True
                break
    return scenario, violations


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """What could be left out, the most telling first."""
    faults, sends = scenario.faults, scenario.sends
    for index in range(len(faults)):
        yield structs.replace(scenario, faults=faults[:index] + faults[index + 1 :])
    if scenario.slowness:
        yield structs.replace(scenario, slowness=0.0)
    if scenario.labour:
        yield structs.replace(scenario, labour=0.0)
    if scenario.workers > 1:
        yield structs.replace(scenario, workers=scenario.workers - 1)
    size = len(sends) // 2
    while size >= 1:
        for start in range(0, len(sends), size):
            yield structs.replace(scenario, sends=sends[:start] + sends[start + size :])
        size //= 2
