"""Whether a state goes on under another pipeline file, or under the same one and a newer version of the code."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.core.error import StateMismatchError
from driftline.engine.epoch import next_epoch
from tests.support.small import small

POSITIONS = {"p.events": 5}


def test_a_setting_that_the_journal_s_version_did_not_know_is_no_change_at_its_default() -> None:
    pipeline = small(drift={"error": "ADWIN(delta=0.01)"})
    last = next_epoch(None, pipeline, POSITIONS, 0, reset=False)
    assert last is not None
    watched: dict[str, Any] = last.pipeline["drift"]
    for key in ("loss", "missing", "cooldown_labels", "correction"):
        del watched[key]
    assert next_epoch(last, pipeline, POSITIONS, 9, reset=False) is None


def test_the_same_setting_with_another_value_is_one() -> None:
    last = next_epoch(None, small(), POSITIONS, 0, reset=False)
    assert last is not None
    del last.pipeline["drift"]["cooldown_labels"]
    other = next_epoch(last, small(drift={"cooldown_labels": 7}), POSITIONS, 9, reset=False)
    assert other is not None
    assert (other.reason, other.state) == ("pipeline", "kept")


def test_a_change_that_the_state_cannot_follow_is_refused_by_name() -> None:
    last = next_epoch(None, small(), POSITIONS, 0, reset=False)
    with pytest.raises(StateMismatchError, match="seed"):
        next_epoch(last, small(seed=7), POSITIONS, 9, reset=False)
