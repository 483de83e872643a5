"""Intervals that hold the share of observations that they promise: adaptive conformal inference, by horizon.

For each horizon, the residuals of the forecasts that were served, in units of their series' scale, are kept in a
window, of all series alike. Half the width of an interval is a quantile of them. Which one is adapted: `alpha` goes
down with each observation outside its interval, and up with each inside, so that the coverage is right in the long run
whatever the data do, a shift included.

    alpha += gain * (miscoverage wanted - 1 if outside else 0)

A window follows slowly, both to more error and back to less. What the error is now is known soonest one step ahead. So
residuals are kept, at every horizon, in units of the `swell` at the time when their forecast was served, and a half
width is the quantile times the swell of now:

    swell = mean of the latest residuals one step ahead / their mean over a window

both as exponentially weighted means: the latest are those of about one step of all series.

A forecast of horizon h is judged h steps later, when others of it are under way, one for each step and series: their
misses would all be answered after the first has been. So the gain is divided by h times the number of series.

Where `alpha` asks for more than the window holds, the interval is that many times the greatest residual; Gibbs and
Candes have it infinite there.

Source: I. Gibbs and E. Candes, Adaptive conformal inference under distribution shift (2021); J. Lei et al.,
Distribution-free predictive inference for regression (2018), section 5.2, residuals scaled by their expected size.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import ceil
from typing import Any, Final

_ALPHA_MIN, _ALPHA_MAX = -0.5, 1.0
_WIDEST: Final = 4.0  # times the greatest residual of the window
_MIX: Final = 0x9E3779B1  # 2**32 over the golden ratio: spreads what is kept evenly
_SPAN: Final = 2**32
_STEPS: Final = 20  # how many steps of all series the window spans at least
_LATEST: Final = 64  # residuals, at least, that a swell is the mean of
_SWELL_MAX: Final = 4.0  # a swell is at most this, and at least one over it


class Intervals:
    """Half widths by horizon.

    Args:
        horizons: how many.
        share: of the observations that an interval is to hold.
        gain: how fast it adapts.
        window: how many residuals a horizon keeps.

    Attributes:
        alphas: the miscoverage that quantiles are taken at, by horizon from 0.
        judged: how many residuals each horizon has had.
        latest, usual: mean residual one step ahead, of the latest and over a window.

    Cost: an update 1.5 us a horizon with 1,000 residuals.
    """

    def __init__(self, horizons: int, share: float, gain: float, window: int) -> None:
        self.miss = 1.0 - share
        self.gain = gain
        self.window = window
        self.alphas = [self.miss] * horizons
        self.judged = [0] * horizons
        self.latest = self.usual = 0.0
        self._kept: list[deque[float]] = [deque() for _ in range(horizons)]
        self._sorted: list[list[float]] = [[] for _ in range(horizons)]

    @property
    def swell(self) -> float:
        """How large residuals are now, beside what is usual; 1 before that can be known."""
        if self.judged[0] < _LATEST or self.usual <= 0.0:
            return 1.0
        return min(max(self.latest / self.usual, 1.0 / _SWELL_MAX), _SWELL_MAX)

    def halves(self) -> list[float | None]:
        """Half the width of an interval in units of a series' scale, by horizon; None while too few residuals are
        known for its share."""
        swell, miss = self.swell, self.miss
        halves: list[float | None] = []
        for ordered, alpha in zip(self._sorted, self.alphas, strict=True):
            count = len(ordered)
            if (count + 1) * miss < 1.0:
                halves.append(None)
                continue
            rank = ceil((count + 1) * (1.0 - alpha))
            if rank <= count:
                half = ordered[max(rank, 1) - 1]
            else:
                half = ordered[-1] * min(1.0 + (rank - count) / (count + 1) / miss, _WIDEST)
            halves.append(half * swell)
        return halves

    def add(self, horizon: int, residual: float, covered: bool | None, series: int, swell: float = 1.0) -> None:
        """The truth of one forecast.

        Args:
            horizon: from 1 on.
            residual: its distance, in units of the series' scale, 0 or more.
            covered: whether its interval held it; None where it had none.
            series: how many there are.
            swell: when the forecast was served.
        """
        number = horizon - 1
        if covered is not None:
            step = self.gain / (horizon * (series if series > 1 else 1))
            alpha = self.alphas[number] + step * (self.miss - (0.0 if covered else 1.0))
            self.alphas[number] = _ALPHA_MIN if alpha < _ALPHA_MIN else _ALPHA_MAX if alpha > _ALPHA_MAX else alpha
        count = self.judged[number]
        self.judged[number] = count + 1
        if number == 0:
            self._follow(residual, count + 1, series)
        every = series * _STEPS // self.window
        if every > 1 and count * _MIX % _SPAN >= _SPAN // every:  # else the window spans less than a few steps
            return
        kept, ordered, residual = self._kept[number], self._sorted[number], residual / swell
        kept.append(residual)
        insort(ordered, residual)
        if len(kept) > self.window:
            del ordered[bisect_left(ordered, kept.popleft())]

    def _follow(self, residual: float, count: int, series: int) -> None:
        """One more residual one step ahead."""
        self.latest += (residual - self.latest) / min(count, max(_LATEST, series))
        self.usual += (residual - self.usual) / min(count, max(self.window, series * _STEPS))

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if name != "_sorted"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.latest = self.usual = 0.0  # of states that were written before they were kept
        self.__dict__.update(state)
        self._sorted = [sorted(kept) for kept in self._kept]
