"""The oldest key of a large dict goes at a cost that does not grow with those that went before it."""

from __future__ import annotations

from driftline.core.compact import compacted
from driftline.core.guard.kept import Kept
from driftline.core.river.ahead import PerSeries, Taught
from driftline.core.river.items import Popularity


def test_order_and_content_stay() -> None:
    kept = {number: str(number) for number in range(1_000)}
    for number in range(300):
        del kept[number]
    for let_go in range(1, 2_000):
        made = compacted(kept, let_go, 1_000)
        assert made == kept
        assert list(made) == list(kept)


def test_a_flood_of_series_does_not_slow_the_guard_down() -> None:
    """Each further series passed over all that were let go before: 184 us a record of 100,000 series."""
    kept, most, anew = Kept(), 10_000, 0
    for number in range(5 * most):
        before = kept.series
        kept.accept(b"%d" % number, 1.0, 0, 0, most)
        anew += kept.series is not before
    assert anew == 4 * most // 1_600
    assert list(kept.series) == [b"%d" % number for number in range(4 * most, 5 * most)]
    assert kept.evicted == 4 * most


def test_a_flood_of_items_does_not_slow_their_popularity_down() -> None:
    items, anew = Popularity(items_max=10_000, half_life=None), 0
    for number in range(50_000):
        before = vars(items)["_seen"]
        items.learn_many({}, {f"{number}": 1.0})
        anew += vars(items)["_seen"] is not before
    assert anew == 25


class _Still:
    """A model that learns nothing."""

    def learn_one(self, value: float) -> None:
        """A number of its series."""


def test_a_flood_of_series_does_not_slow_their_models_down() -> None:
    """Of 400,000 series, each further one took 16 us instead of 6; what counts them is no part of the state."""
    models, anew = PerSeries(_Still(), 1, 10_000), 0
    for number in range(50_000):
        before = models.kept
        models.learn_one(Taught(series=b"%d" % number, slot=1, values=(1.0,), pairs=()))
        anew += models.kept is not before
    assert anew == 25
    assert list(models.kept) == [b"%d" % number for number in range(40_000, 50_000)]
    assert models.__getstate__().keys() == PerSeries(_Still(), 1, 1).__getstate__().keys()
