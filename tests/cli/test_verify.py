"""What `driftline verify` prints: whole, and within a terminal's width."""

from __future__ import annotations

from pathlib import Path

from driftline.cli.verify import lines, report
from driftline.engine.published import Difference
from driftline.operate.verify import ShardAudit
from tests.cli.command import run


def audits(*, difference: Difference | None = None) -> list[ShardAudit]:
    topics = {"card-fraud.scores": 1_000_000, "card-fraud.outcomes": 999_000}
    none = dict.fromkeys(topics, 0)
    first = ShardAudit(0, slices=12_345, records=2_000_000, outputs=topics, repeats=none, removed=none)
    second = ShardAudit(1, outputs=topics, repeats=dict.fromkeys(topics, 7), removed=none)
    second.start = "the snapshot after slice 1,234,567, since retention has removed earlier inputs"
    second.unverifiable, second.epochs_unverifiable, second.off_chain = 5, [1, 3], 2
    second.made_by = ["Driftline 0.2.0 (here 0.3.0), Python 3.11.7 (here 3.12.1), River \x1b[31m (here 0.26.1)"]
    second.passed_over = 2
    second.difference = difference
    return [first, second]


def test_a_pass_is_told_with_its_counts() -> None:
    told = list(lines(audits(), 61.25, outputs=True))
    assert max(map(len, told)) <= 80
    assert "PASS  12,345 slices, 2,000,000 records, 2 shards, 61.2 s" in told
    assert "     2,000,000 card-fraud.scores  (7 repeats)" in told
    assert any("7 slices of epoch 1, 3 are not verifiable here" in line for line in told)
    assert "the state they continue were made by Driftline 0.2.0 (here 0.3.0)" in " ".join(map(str.strip, told))
    assert any("2 of them: inputs deleted" in line for line in told)
    assert "\x1b" not in "".join(told)
    assert any("2 journal entries outside the chain" in line for line in told)


def test_a_difference_is_told_with_its_place() -> None:
    found = Difference(1, 17, "card-fraud.scores-1-250", "value.probability", "0.25", "0.5", "the journal agrees")
    told = list(lines(audits(difference=found), 1.0, outputs=True))
    assert "DIFFERENT  shard 1, slice 17, card-fraud.scores-1-250" in told
    assert told[told.index("  value.probability") + 1 :][:3] == [
        "    expected  0.25",
        "    found     0.5",
        "  the journal agrees",
    ]
    made = report(audits(difference=found), 1.0)
    assert (made["verdict"], made["difference"]["slice"], made["difference"]["field"]) == (
        "DIFFERENT",
        17,
        "value.probability",
    )


def test_a_wrong_time_is_wrong_usage(pipeline_file: Path) -> None:
    done = run("verify", "-p", pipeline_file, "--from", "yesterday")
    assert done.returncode == 2
    assert "ISO 8601" in done.stderr
