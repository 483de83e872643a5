"""A few hundred seeds, the scenarios that once failed, and the simulator's own promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.simulation.minimise import minimise
from tests.simulation.planted import FAULTS, FOUND_BY, first_found
from tests.simulation.run import run, run_seed
from tests.simulation.scenario import Fault, Scenario, draw

SEEDS = 240
CHUNK = 20
REGRESSIONS = sorted(Path(__file__).with_name("regressions").glob("*.json"))
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_promise_holds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        violations = run_seed(seed).violations
        assert not violations, f"{violations[0]}\nsee: make sim SEED={seed}"


@pytest.mark.parametrize("file", REGRESSIONS, ids=[file.stem for file in REGRESSIONS])
def test_what_once_failed_does_not_fail_again(file: Path) -> None:
    """Each was found by a seed and cut down; `because` in the file says what was wrong."""
    document = msgspec.json.decode(file.read_bytes())
    assert document["because"]
    scenario = msgspec.convert(document["scenario"], Scenario)
    assert run(scenario).violations == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_within_a_thousand_seeds(name: str) -> None:
    """The seed that found it last is tried first; `make sim-planted` tells them anew after a change of the engine."""
    found = first_found(FAULTS[name], [FOUND_BY[name], *range(1_000)])
    assert found is not None
    assert run_seed(found[0]).violations == []


def test_a_seed_gives_the_same_trace_everywhere() -> None:
    """In one process again and again, and in others under every hash seed."""
    code = (
        "from tests.simulation.run import run_seed\nfor seed in (3, 7, 42): print(run_seed(seed, traced=True).digest)"
    )
    here = [run_seed(seed, traced=True).digest for seed in (3, 7, 42)]
    assert len(set(here)) == 3
    for hash_seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        told = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert told.stdout.split() == here


def test_a_scenario_is_plain_data() -> None:
    for seed in range(20):
        scenario = draw(seed)
        assert msgspec.json.decode(msgspec.json.encode(scenario), type=Scenario) == scenario


def test_every_fault_strikes_now_and_then() -> None:
    kinds = {fault.what for seed in range(200) for fault in draw(seed).faults}
    assert kinds == set(msgspec.inspect.type_info(Fault).fields[0].type.values)  # type: ignore[attr-defined]  # a literal


def test_a_failure_is_cut_down_to_what_it_needs() -> None:
    """Without fencing, what is left of a scenario is no more than an owner that is put out, and its late commit."""
    with FAULTS["no_fencing"]():
        whole = draw(FOUND_BY["no_fencing"])
        least, violations = minimise(whole)
    assert violations
    assert len(least.faults) <= 2
    assert len(least.sends) < len(whole.sends) // 2
