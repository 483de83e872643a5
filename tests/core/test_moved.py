"""States name classes by the modules in which they stood: each former name is admitted, and digests keep the first."""

from __future__ import annotations

from importlib import import_module

import pytest

from driftline.core.digest import digest_of
from driftline.core.moved import MOVED, lasting_name
from driftline.core.pickle.allowlist import OWN, common
from driftline.core.record import Source

CLASSES = [place for place in common().names if place[0].startswith("driftline.")]


@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_a_class_is_admitted_under_each_of_its_names_and_digested_under_the_first(module: str, name: str) -> None:
    kind = getattr(import_module(module), name)
    former = MOVED.get(module, ())
    for place in (module, *former):
        assert common().names[place, name] is kind
    assert lasting_name(kind) == f"{(*former, module)[0]}.{name}"


def test_no_two_modules_had_one_name_and_each_has_classes_in_states() -> None:
    former = [place for places in MOVED.values() for place in places]
    assert len(set(former)) == len(former)
    assert {*MOVED} <= {module for module, _ in CLASSES}


def test_all_classes_of_states_are_looked_at() -> None:
    """Those of the table, and tuples of ours, which are admitted with containers."""
    assert {(f"driftline.core.{module}", name) for module, names in OWN.items() for name in names.split()} < {*CLASSES}
    assert ("driftline.core.drift.change_point", "Change") in CLASSES


def test_a_digest_is_the_one_from_before_the_move() -> None:
    """Computed by 0.2.0."""
    assert digest_of(Source("e", 0, 1, 2, b"k", b"v")).hex() == "6f93e3a1b0f16ca9c89ce27a6d379d37"
