"""The demo's stream: card payments, some of them fraud, whose pattern changes part way.

At first fraud is large payments abroad at night. Then the fraudsters change: small payments, at home, in web shops, in
daytime. The payments themselves look as they did, so only the error shows it: concept drift without data drift.
Made from a seed, so that every run sees the same payments; simulated, and simple, so that the change is known exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp
from random import Random
from typing import Any

from driftline.ingest.table import Sample

PIPELINE = """\
# Is a card payment fraud? Chargebacks answer later.
pipeline: {name}
task: binary
seed: 42
topics: {{events: {name}.payments, labels: {name}.chargebacks}}
delivery: {delivery}
event:
  id: payment_id
  features:
    amount: number
    hour: number
    distance_km: number
    online: boolean
    country: {{path: card.country, type: string, missing: unknown}}
label: {{id: payment_id, value: is_fraud, positive: true, wait: 7d}}
model: |
  (Select('amount', 'hour', 'distance_km', 'online') | StandardScaler())
  + (Select('country') | OneHotEncoder(drop_zeros=True)) | LogisticRegression()
metrics: [Accuracy, ROCAUC, LogLoss]
kpi:
  fraud_loss:
    unit: EUR
    costs: {{false_negative: amount, false_positive: 5, true_positive: 5}}
    by: country
drift:
  error: ADWIN(delta=0.002)
"""

STEP_MS = 1_000
HOME = "FR"
COUNTRIES = (HOME, HOME, HOME, HOME, "DE", "ES", "US", "BR")


def payments(count: int, change_at: int, start_ms: int, seed: int = 7) -> Iterator[Sample]:
    """Payments with the truth about them, one every `STEP_MS` of event time.

    Args:
        count: how many.
        change_at: index of the first payment under the new pattern.
        start_ms: event time of the first.
    """
    random = Random(seed)
    for index in range(count):
        payment = _payment(random, index)
        fraud = random.random() < _fraud_probability(payment, changed=index >= change_at)
        yield Sample(payment["payment_id"], payment, fraud, start_ms + index * STEP_MS)


def _payment(random: Random, index: int) -> dict[str, Any]:
    country = random.choice(COUNTRIES)
    return {
        "payment_id": f"p{index:06d}",
        "amount": round(random.lognormvariate(3.6, 1.0), 2),
        "hour": random.randrange(24),
        "distance_km": round(random.expovariate(1 / 20) if country == HOME else random.uniform(300, 9_000), 1),
        "online": random.random() < 0.4,
        "card": {"country": country},
    }


def _fraud_probability(payment: dict[str, Any], *, changed: bool) -> float:
    abroad = payment["card"]["country"] != HOME
    night = payment["hour"] < 7
    if changed:
        odds = -4.5 + 4.0 * payment["online"] + 2.5 * (not abroad) - 3.0 * night - 0.02 * payment["amount"]
    else:
        odds = -7.0 + 4.0 * abroad + 4.0 * night + 0.03 * min(payment["amount"], 150)
    return 1 / (1 + exp(-odds))
