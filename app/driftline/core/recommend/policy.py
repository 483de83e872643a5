"""Policies: with which probability each candidate is in the slate, and the draw itself.

A policy says for every candidate the probability that it is shown (its *inclusion probability*); they add up to the
size of the slate. Systematic sampling draws a slate in which every item has exactly that probability, and the slate is
then ordered by what the policy expects. So the propensity of an item is exact, whatever the policy, and with it the
estimate of what another policy would have earned: it assumes that the reward of an item depends on the request and the
item, not on the items beside it or on its place.

* `epsilon_greedy`: the k items of which the model expects most.
* `linucb`: the k items with the greatest mean + alpha x deviation.
* `thompson`: `draws` samples of every item's reward from its posterior; the share of the draws in which an item is
  among the best k. The draws are seeded by the request; given them, the probabilities are exact.
* `softmax`: in proportion to exp(expected / temperature), at most 1 each.
* `popularity`, `uniform`: the k items with the greatest mean reward, whatever the request; any.

Each is mixed with `epsilon` of uniform exploration: so every item of a request has a probability of at least
epsilon x k / n, and any other policy can be judged from the log.

Sources: W. G. Madow, On the theory of systematic sampling II (1949), for the draw; L. Li et al., A contextual-bandit
approach to personalized news article recommendation (2010), for LinUCB; S. Agrawal and N. Goyal, Thompson sampling for
contextual bandits with linear payoffs (2013); T. Uchiya et al., Algorithms for adversarial bandit problems with
multiple plays (2010), for inclusion probabilities as a policy.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from driftline.core.pipeline.recommend import RecommendForm

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

NEEDS_DEVIATIONS: Final = ("linucb", "thompson")


def generator(seed: int, request: object) -> np.random.Generator:
    """The random numbers of one request: the same whenever, and wherever, it is ranked."""
    name = f"{seed}:{type(request).__name__}:{request}"
    number = int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.PCG64(number))


def best(values: Floats, count: int) -> Places:
    """Places of the greatest values, the greatest first; of equals the first."""
    return np.argsort(-values, kind="stable")[:count]


def certain(values: Floats, count: int) -> Floats:
    """Inclusion probabilities of the best, for certain."""
    shares = np.zeros(len(values))
    shares[best(values, count)] = 1.0
    return shares


def shares_of(
    form: RecommendForm, means: Floats, deviations: Floats, popularity: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Inclusion probabilities under a policy, and by what it orders the slate.

    Args:
        means, deviations: of the reward of each candidate, by the model.
        popularity: mean reward of each candidate, whatever the request.

    Returns:
        Shares in [0, 1] that add up to the size of the slate (all candidates, if there are fewer), and the order.
    """
    number = len(means)
    count = min(form.slate, number)
    order = means
    match form.policy:
        case "epsilon_greedy":
            shares = certain(means, count)
        case "linucb":
            order = means + form.alpha * deviations
            shares = certain(order, count)
        case "thompson":
            draws = means + form.alpha * deviations * random.standard_normal((form.draws, number))
            chosen = np.argsort(-draws, axis=1, kind="stable")[:, :count]
            shares = np.bincount(chosen.ravel(), minlength=number) / form.draws
        case "softmax":
            shares = _softmax(_scores(means, form.temperature), count)
        case "popularity":
            order = popularity
            shares = certain(popularity, count)
        case _:  # uniform
            shares = np.full(number, count / number if number else 0.0)
    if form.epsilon and number:
        shares = (1.0 - form.epsilon) * shares + form.epsilon * count / number
    return shares, order


def _scores(means: Floats, temperature: float) -> Floats:
    """Means in units of the temperature; where that is beyond any number, how far each is behind the best."""
    with np.errstate(over="ignore"):
        scores = means / temperature
        return scores if np.isfinite(scores).all() else (means - means.max()) / temperature


def _softmax(scores: Floats, count: int) -> Floats:
    """In proportion to exp(scores), adding up to `count`, at most 1 each: who has more gives it to the others."""
    if count == len(scores):
        return np.ones(len(scores))
    weights = np.exp(scores - scores.max()) + 1e-12  # none has no chance at all
    shares, full = np.zeros(len(scores)), np.zeros(len(scores), dtype=bool)
    while True:
        left = count - int(full.sum())
        shares = np.where(full, 1.0, weights * (left / weights[~full].sum()))
        over = ~full & (shares > 1.0)
        if not over.any():
            return shares
        full |= over


def draw(shares: Floats, count: int, random: np.random.Generator) -> list[int]:
    """Places of a slate in which every item has exactly its share as probability.

    Systematic sampling over a random order: the shares laid end to end from 0 to `count`, and one point in each unit,
    all at the same distance from its start.
    """
    order = random.permutation(len(shares))
    ends = np.cumsum(shares[order])
    ends *= count / ends[-1]
    ends[-1] = count  # not a rounding error less
    crossed = np.diff(np.floor(ends + random.random()), prepend=0.0) >= 1.0
    found: list[int] = order[crossed].tolist()
    return found
