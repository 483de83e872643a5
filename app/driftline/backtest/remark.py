"""What a reader of a backtest's report must know, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from driftline.backtest.candidate import Result
from driftline.backtest.compare import UNEQUAL_MAX, Comparison
from driftline.backtest.measure import CURVES, is_exact
from driftline.backtest.run import Facts, Outcome
from driftline.backtest.served import Against
from driftline.backtest.start import COLD
from driftline.core.duration import format_duration
from driftline.core.metric.exact import LABELS_MAX
from driftline.core.task import TaskName, task_of
from driftline.core.timestamp import written

UNTAUGHT = "NO LABEL WAS LEARNED"


def findings(outcome: Outcome) -> list[str]:
    """What is as it should be."""
    return [remark for name, one in outcome.results.items() if (remark := _as_served(name, one)) is not None]


def warnings(
    outcome: Outcome, comparisons: Sequence[Comparison], span: str, label_delay_ms: int, task: TaskName
) -> list[str]:
    """What makes the figures others than they seem.

    Args:
        label_delay_ms: of a file of rows.
        span: which part of the topics was requested; empty for all.
    """
    results = outcome.results.items()
    remarks = [untaught(name, result, outcome.facts, label_delay_ms, task) for name, result in results]
    found = [remark for remark in remarks if remark is not None]
    if outcome.stopped:
        found.append("Stopped before the end: everything here covers only the part read until then.")
    found += _of_source(outcome.facts)
    found += [remark for name, result in outcome.results.items() if (remark := _against(name, result)) is not None]
    for name, result in outcome.results.items():
        found += _of_candidate(name, result, span)
        if result.steered and any(part.difference for one in comparisons for part in one.differences):
            found.append(
                f"{name} was changed while live (by a command, a loaded model, a changed file or a reset), the others "
                "were not: this may explain part of the differences."
            )
    if partly := [one for one in comparisons if one.left_out]:
        remark = "; ".join(
            f"{one.candidate} over {one.events:,} events, leaving out {one.left_out:,}" for one in partly
        )
        found.append(
            f"Compared with {partly[0].baseline} only in blocks of time where both predicted nearly the same "
            f"events (at most {UNEQUAL_MAX:.0%} apart), without those of untrained models: {remark}. The "
            "metrics table covers each candidate's own predictions. Use --burn-in to leave out the beginning there too."
        )
        found += [remark for name, one in results if (remark := _untrained(name, one)) is not None]
    return found


def _untrained(name: str, result: Result) -> str | None:
    """How many of its first predictions are those of an untrained model."""
    tally = result.tally
    if not tally.untrained:
        return None
    count = "1 prediction" if tally.untrained == 1 else f"{tally.untrained:,} predictions"
    return (
        f"{name}: the first {count} came from a model that had learned fewer than {tally.labels_min:,} labels; no "
        "comparison counts them."
    )


def undivided(names: Sequence[str], segment: str | None) -> list[str]:
    """Which candidates cannot be broken down by a feature."""
    return [f"{name} has no feature {segment}, so it is not broken down by it." for name in names]


def untaught(name: str, result: Result, facts: Facts, label_delay_ms: int, task: TaskName) -> str | None:
    """That nothing could be learned before the last score, and why; None where something was."""
    if not task_of(task).supervised:
        return None
    if result.taught or not result.has_results or facts.start != COLD or facts.size_bytes:
        return None
    remark = (
        f"{name}: {UNTAUGHT} before the last score. All scores come from an untrained model, so the "
        "figures are meaningless. "
    )
    if result.first_ms is None or result.last_ms is None:
        return remark + "Check the times of events and labels."
    span_ms = result.last_ms - result.first_ms
    first, last = (shown_time(time_ms) for time_ms in (result.first_ms, result.last_ms))
    if label_delay_ms >= span_ms:
        delay, span = format_duration(label_delay_ms), f"{span_ms / 86_400_000:,.2g} days"
        return remark + (
            f"Labels arrive {delay} after their event, but all events lie within {span} ({first} to {last}). Check the "
            "times and --label-delay."
        )
    return remark + f"Events span {first} to {last}, and no label arrived by then. Check their times."


def shown_time(time_ms: int) -> str:
    return written(time_ms)


def _of_source(facts: Facts) -> Iterator[str]:
    if facts.cut_events:
        yield f"Earlier events have been deleted: {', '.join(facts.cut_events)}. Their labels are orphans."
    if facts.cut_labels:
        yield (
            f"Earlier labels have been deleted: {', '.join(facts.cut_labels)}. Their events count as unlabelled "
            "(or get the assumed label), so figures for the beginning are unreliable."
        )
    if facts.uncommanded:
        yield "In time order, operators' commands are ignored, so live scores may have differed."
    if facts.bad:
        yield f"{facts.bad:,} unusable rows were skipped; the first: {facts.bad_lines[0]}"
    if facts.ahead:
        rows = "row has a time" if facts.ahead == 1 else "rows have times"
        yield (
            f"{facts.ahead:,} {rows} far ahead of neighbouring rows and are treated as having the time of the row "
            "before; the "
            f"first: {facts.ahead_rows[0]}."
        )
    if facts.disordered:
        yield (
            f"{facts.disordered:,} rows have an earlier time than the row before; sort the file by time for the "
            "order of a live stream."
        )
    if facts.unlabelled:
        yield f"{facts.unlabelled:,} rows have no label."


def _of_candidate(name: str, result: Result, span: str) -> Iterator[str]:
    if result.failure is not None:
        yield f"{name} {'failed' if result.has_results else 'gave no results'}: {result.failure}"
    rejected = sum(count for what, count in result.counts.items() if what.startswith("rejected_"))
    if rejected and result.failure is None:
        first = f"; the first: {result.rejected[0]}" if result.rejected else ""
        yield f"{name}: {rejected:,} records were rejected{first}"
    counted, answered = (int(number) for number in result.tally.total.sums[0, :2])
    if answered < counted and result.failure is None:
        yield (
            f"{name}: {counted - answered:,} of {counted:,} labelled events have no prediction (the model had "
            "not learned yet, or its prediction was withheld); metrics cover the others."
        )
    measure = result.tally.measure
    doubt = measure.doubt(dict(zip(measure.sums, result.tally.total.sums[0].tolist(), strict=True)))
    if doubt is not None and result.failure is None:
        yield f"{name}: {doubt}."
    lost = result.counts.get("orphan", 0) + result.early
    if lost and not span:  # among the labels that come behind a range are those of events behind it
        yield f"{name}: {lost:,} labels match no event that was read."
    if not is_exact(result.tally):
        yield (
            f"{name}: {' and '.join(CURVES)} are computed from binned scores, as live: there are more than the "
            f"{LABELS_MAX:,} "
            "labels whose exact scores are kept."
        )
    if (failed := result.counts.get("failed", 0)) and result.failure is None:
        first = f"; the first: {result.raised}" if result.raised is not None else ""
        yield f"{name}: the model raised an exception on {failed:,} labels and did not learn them{first}."


def _as_served(name: str, result: Result) -> str | None:
    """That all scores are those that were served, in a sentence."""
    found = result.against
    if found is None or not found.compared or found.differing or found.missing:
        return None
    how = "are identical to the served ones, bit for bit" if result.live else "agree with the served ones"
    return f"{name}: all {found.compared:,} scores {how}{_removed(found)}."


def _against(name: str, result: Result) -> str | None:
    """What differs from what was served, in a sentence."""
    found = result.against
    if found is None or _as_served(name, result) is not None:
        return None
    if not found.compared:
        return f"{name}: none of its scores was served{_removed(found)}."
    remark = f"{name}: {found.differing:,} of {found.compared:,} scores differ from what was served"
    remark += f", by at most {found.largest:.4g}" if found.differing else ""
    return remark + (f"; {found.missing:,} were never served" if found.missing else "") + _removed(found) + "."


def _removed(found: Against) -> str:
    return f"; the served scores of {found.removed:,} earlier events have been deleted" if found.removed else ""
