"""What a day's hundred alarms find: the fraud pipeline, an amount alone, and a batch model retrained every week.

`python -m benchmarks.fraud FILE [--limit N] [--delay DAYS]`, where FILE holds the transactions of the Fraud Detection
Handbook. The batch model is a logistic regression of the same features as the pipeline's, by L-BFGS, over all labels
that were known at the beginning of its week; it serves that week. All three are asked about the same transactions:
those after the first batch model was trained. Their alarms are the highest scores of each day, as hindsight has them;
`decided at once` are the pipeline's under `decision: {budget: N, per: 1d}`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from driftline.config import load_pipeline
from driftline.core.budget import Budget
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.output import Outcome
from driftline.core.shard.state import Shard
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource

Floats = NDArray[np.float64]
PIPELINE: Final = Path(__file__).resolve().parents[1] / "examples" / "fraud" / "pipeline.yaml"
DAY_MS: Final = 86_400_000
WEEK: Final = 7  # days
L2: Final = 1.0
MISSED_COST, ALARM_COST = 20.0, 1.0


def folded(path: Path, limit: int | None, delay_ms: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Times, features, labels, and what the pipeline served, of every transaction whose label came."""
    pipeline = load_pipeline(PIPELINE)
    shard = Shard(pipeline, 0)
    made: list[tuple[int, list[float], bool, float]] = []
    source = TableSource(path, Fields("TX_FRAUD"), delay_ms, limit)
    for records in source.open(pipeline).batches():
        for record in records:
            for one in step(shard, record, Oracle()).outputs:
                if isinstance(one, Outcome) and one.kind == "joined" and one.features is not None:
                    said = one.prediction.value if one.prediction is not None else None
                    x = [_number(cell) for cell in one.features]
                    made.append((one.event_time_ms or 0, x, bool(one.label), said or 0.0))
    made.sort(key=lambda row: row[0])
    times, features, labels, served = (np.array(column, dtype=float) for column in zip(*made, strict=True))
    return times, features, labels, served


def _number(cell: Any) -> float:
    return float(cell) if isinstance(cell, int | float) else 0.0


def trained(x: Floats, y: Floats) -> Any:
    """A function from features to scores."""
    mean, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    scaled = np.column_stack([(x - mean) / spread, np.ones(len(x))])

    def loss(weights: Floats) -> tuple[float, Floats]:
        odds = scaled @ weights
        total = np.logaddexp(0.0, odds).sum() - y @ odds + L2 * weights[:-1] @ weights[:-1]
        slope = scaled.T @ (1.0 / (1.0 + np.exp(-odds)) - y)
        slope[:-1] += 2.0 * L2 * weights[:-1]
        return float(total), slope

    found = minimize(loss, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda rows: np.column_stack([(rows - mean) / spread, np.ones(len(rows))]) @ found


def weekly(times: Floats, features: Floats, labels: Floats, delay_ms: int) -> Floats:
    """Scores of the batch model; NaN before the first."""
    scores, day = np.full(len(times), np.nan), (times - times[0]) // DAY_MS
    first = int(delay_ms // DAY_MS) + 1
    for begin in range(first, int(day.max()) + 1, WEEK):
        known = times + delay_ms <= times[0] + begin * DAY_MS
        if labels[known].any():
            week = (day >= begin) & (day < begin + WEEK)
            scores[week] = trained(features[known], labels[known])(features[week])
    return scores


def at_budget(times: Floats, labels: Floats, scores: Floats, alarms: int) -> tuple[float, float, float]:
    """Share of the frauds that a day's highest scores find, share of these that are frauds, and cost a day."""
    days: dict[int, list[int]] = defaultdict(list)
    for place, time_ms in enumerate(times):
        days[int(time_ms // DAY_MS)].append(place)
    found = raised = 0.0
    for places in days.values():
        chosen = sorted(places, key=lambda place: -scores[place])[:alarms]
        found += labels[chosen].sum()
        raised += len(chosen)
    frauds = float(labels.sum())
    cost = (MISSED_COST * (frauds - found) + ALARM_COST * (raised - found)) / len(days)
    return found / frauds, found / raised, cost


def decided(times: Floats, scores: Floats, alarms: int) -> NDArray[np.bool_]:
    """What a budget of so many alarms a day decides, transaction by transaction."""
    budget = Budget()
    rows = zip(scores.tolist(), times.tolist(), strict=True)
    return np.array([budget.decide(score, int(time_ms), alarms, DAY_MS, 0) for score, time_ms in rows])


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", type=int, help="Transactions to read.")
@click.option("--delay", default=7, show_default=True, help="Days until a label comes.")
@click.option("--alarms", default=100, show_default=True, help="A day.")
def main(path: Path, limit: int | None, delay: int, alarms: int) -> None:
    """Print the table."""
    delay_ms = delay * DAY_MS
    times, features, labels, served = folded(path, limit, delay_ms)
    batch = weekly(times, features, labels, delay_ms)
    asked = ~np.isnan(batch)
    if not labels[asked].any():
        sys.exit("no fraud after the first batch model; read more transactions, or let labels come earlier")
    amount = features[:, list(load_pipeline(PIPELINE).event.names).index("TX_AMOUNT")]
    days = len(set((times[asked] // DAY_MS).tolist()))
    click.echo(f"{int(labels[asked].sum())} frauds in {days} days, labels {delay} days later, {alarms} alarms a day")
    click.echo(f"{'':28}{'frauds found':>14}{'alarms right':>14}{'cost a day':>12}")
    chosen = decided(times, served, alarms)[asked]
    each = np.array([chosen[times[asked] // DAY_MS == day].sum() for day in np.unique(times[asked] // DAY_MS)])
    for name, scores in (("the pipeline, online", served), ("batch, retrained weekly", batch), ("amount only", amount)):
        found, right, cost = at_budget(times[asked], labels[asked], scores[asked], alarms)
        click.echo(f"{name:28}{found:>14.1%}{right:>14.1%}{cost:>12,.1f}")
        if scores is served:
            tp, frauds = labels[asked][chosen].sum(), labels[asked].sum()
            cost = (MISSED_COST * (frauds - tp) + ALARM_COST * (chosen.sum() - tp)) / days
            click.echo(f"{'  decided at once':28}{tp / frauds:>14.1%}{tp / chosen.sum():>14.1%}{cost:>12,.1f}")
    click.echo(f"decided at once: {each.min():.0f} to {each.max():.0f} alarms a day, {each.mean():.1f} on average")


if __name__ == "__main__":
    main()
