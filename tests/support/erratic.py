"""Models of a user's own that answer with anything at all.

An answer is drawn from what the model is asked and from how much it has learned. A generator that is part of its state
would be rewound each time the model is put back, replaced by a copy or begun anew, and say the same few things.

A model has a temper, since one that is not finite is exchanged at once: `wild` answers break every model down, `rude`
ones seldom do, so that what is finite and absurd meets the limits, and `calm` ones are nearly always sane, so that a
series has a level and outputs a distribution before they jump.
"""

from __future__ import annotations

from math import inf, nan
from random import Random
from typing import Any, ClassVar, Final
from zlib import crc32

import numpy as np
from river import base, time_series
from river.base.anomaly_detector import AnomalyDetector

_FINITE: Final[tuple[Any, ...]] = (
    0.0, -0.0, 1e308, -1e308, 5e-324, 1e15, -1.0, 1.0, 2.0, -1e-9, 1.0 + 1e-9, 0.5, 1e6, -73_197.0, np.float64(0.25),
    np.float32(1e38), np.int64(7), True, 2**70,
)  # fmt: skip
_BROKEN: Final[tuple[Any, ...]] = (nan, inf, -inf, np.float64("nan"), None, "0.5", [0.5])
_CLASSES: Final[tuple[Any, ...]] = (True, False, "a", "b", "never seen", "", "\x00", 7, 2**64 + 1, 0.5, nan)
_NO_CLASSES: Final[tuple[Any, ...]] = (None, ("a",))
_JUMP_EVERY: Final = 50  # lessons
TEMPERS: Final = {"calm": (0.95, 0.0002), "rude": (0.4, 0.002), "wild": (0.4, 0.3)}
"""By name, the share of sane answers, and of those that are not finite or no numbers at all."""


class Erratic(base.Base):
    """See the module.

    Args:
        temper: one of `TEMPERS`.
        seed: of what it says.
    """

    usual: ClassVar[float] = 10.0

    def __init__(self, temper: str = "wild", seed: int = 1) -> None:
        self.temper = temper
        self.seed = seed
        self.lessons = 0

    def dice(self, *asked: Any) -> Random:
        """To draw an answer."""
        return Random(crc32(repr((self.seed, self.lessons, asked)).encode()))

    def level(self) -> float:
        """What sane numbers are near; it jumps now and then."""
        turn = self.lessons // _JUMP_EVERY
        return self.usual * (1.0, 1.0, 1.0, 3.0, 1 / 3, 1.2)[crc32(b"%d %d" % (self.seed, turn)) % 6]

    def number(self, dice: Random) -> Any:
        sane, broken = TEMPERS[self.temper]
        draw = dice.random()
        if draw < sane:
            return self.level() * dice.gauss(1, 0.1)
        if draw >= 1 - broken:
            return dice.choice(_BROKEN)
        return dice.choice((1, -1)) * 10.0 ** dice.uniform(-320, 308) if dice.random() < 0.5 else dice.choice(_FINITE)

    def shares(self, dice: Random) -> Any:
        sane, broken = TEMPERS[self.temper]
        draw = dice.random()
        if draw >= 1 - broken:
            classes = _NO_CLASSES if dice.random() < 0.1 else _CLASSES
            return {dice.choice(classes): self.number(dice) for _ in range(dice.choice((0, 1, 2, 3)))}
        if draw >= sane:
            return {dice.choice(_CLASSES): dice.choice((0, 1, dice.random())) for _ in range(dice.choice((0, 1, 2, 9)))}
        return self.usual_shares(dice)

    def usual_shares(self, dice: Random) -> dict[Any, float]:
        """Of yes and no: mostly unsure, and at times certain."""
        p = min(max(dice.gauss(self.level() / 20, 0.1), 0.0), 1.0)
        return {False: 1 - p, True: p}


class ErraticClassifier(Erratic, base.Classifier):
    """Gives probabilities of any classes, which need not add up to 1, or be numbers."""

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: Any, **kwargs: Any) -> None:
        self.lessons += 1

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> Any:
        return self.shares(self.dice(x))


class ErraticNamer(ErraticClassifier):
    """The same of several classes."""

    def usual_shares(self, dice: Random) -> dict[Any, float]:
        a, b, c = dice.random() * self.level(), dice.random() * self.usual, dice.random()
        return {"a": a / (a + b + c), "b": b / (a + b + c), "c": c / (a + b + c)}


class ErraticRegressor(Erratic, base.Regressor):
    """Gives any number, or none."""

    def learn_one(self, x: dict[Any, Any], y: Any, **kwargs: Any) -> None:
        self.lessons += 1

    def predict_one(self, x: dict[Any, Any], **kwargs: Any) -> Any:
        return self.number(self.dice(x))


class ErraticForecaster(Erratic, time_series.base.Forecaster):
    """Gives any numbers: what a regressor forecasts is kept near the season, and what this one says is not."""

    def __init__(self, temper: str = "wild", seed: int = 1) -> None:
        super().__init__(temper, seed)
        self.latest = 0.0

    def learn_one(self, y: float, x: dict[Any, Any] | None = None) -> None:
        self.lessons += 1
        self.latest = y

    def forecast(self, horizon: int, xs: list[dict[Any, Any]] | None = None) -> list[Any]:
        dice = self.dice(self.latest)
        return [self.number(dice) for _ in range(horizon)]


class ErraticDetector(Erratic, AnomalyDetector):
    """Gives any score."""

    def learn_one(self, x: dict[Any, Any]) -> None:
        self.lessons += 1

    def score_one(self, x: dict[Any, Any]) -> Any:
        return self.number(self.dice(x))


def classifier(params: dict[str, Any]) -> base.Base:
    return ErraticClassifier(**params)


def namer(params: dict[str, Any]) -> base.Base:
    return ErraticNamer(**params)


def regressor(params: dict[str, Any]) -> base.Base:
    return ErraticRegressor(**params)


def forecaster(params: dict[str, Any]) -> base.Base:
    return ErraticForecaster(**params)


def detector(params: dict[str, Any]) -> base.Base:
    return ErraticDetector(**params)


def second_classifier(params: dict[str, Any]) -> base.Base:
    return ErraticClassifier(**params, seed=2)


def second_namer(params: dict[str, Any]) -> base.Base:
    return ErraticNamer(**params, seed=2)


def second_regressor(params: dict[str, Any]) -> base.Base:
    return ErraticRegressor(**params, seed=2)


def second_forecaster(params: dict[str, Any]) -> base.Base:
    return ErraticForecaster(**params, seed=2)


def second_detector(params: dict[str, Any]) -> base.Base:
    return ErraticDetector(**params, seed=2)
