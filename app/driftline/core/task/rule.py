"""Baselines by name: what a model has to beat, as `driftline backtest --baseline` and `driftline init` ask for it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

from driftline.core.duration import format_duration, parse_duration

RuleName: TypeAlias = Literal["majority", "last", "mean", "median", "last_of", "mean_of", "seasonal", "popularity"]
RULES: Final[tuple[RuleName, ...]] = get_args(RuleName)

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
PHASES: Final[dict[int, tuple[str, ...]]] = {
    _HOUR_MS: ("minute",),
    _DAY_MS: ("hour", "minute"),
    7 * _DAY_MS: ("weekday", "hour", "minute"),
    365 * _DAY_MS: ("month", "day", "hour", "minute"),
}
"""The parts of the event's time that are the same one period later, to the minute."""

USAGE: Final[dict[RuleName, str]] = {
    "last_of": "last_of:KEY",
    "mean_of": "mean_of:KEY",
    "seasonal": "seasonal:PERIOD or seasonal:PERIOD:KEY",
}


class Rule(Struct, frozen=True):
    """A baseline as it was asked for.

    Args:
        keys: fields by whose values labels are kept apart; of `last_of`, `mean_of` and `seasonal`.
        period_ms: of `seasonal`.
    """

    name: RuleName
    keys: tuple[str, ...] = ()
    period_ms: int = 0

    @property
    def text(self) -> str:
        """As it is written after `--baseline`."""
        period = [str(format_duration(self.period_ms))] if self.period_ms else []
        return ":".join([self.name, *period, *([",".join(self.keys)] if self.keys else [])])

    @property
    def words(self) -> str:
        """What it predicts."""
        of_key = f" of the same {' and '.join(self.keys)}" if self.keys else ""
        match self.name:
            case "majority" | "popularity":
                return "the commonest class so far"
            case "mean" | "median":
                return f"the {self.name} of all labels so far"
            case "mean_of":
                return f"the mean label{of_key}"
            case "seasonal":
                return f"the label{of_key} one period of {format_duration(self.period_ms)} ago"
        return f"the last label{of_key}"


def parse_rule(text: str) -> Rule:
    """A rule as it is written after `--baseline`.

    Raises:
        ValueError: it is none; the text says what is allowed.
    """
    name, *rest = (part.strip() for part in text.split(":"))
    if name not in RULES:
        shown = ", ".join(USAGE.get(rule, rule) for rule in RULES)
        raise ValueError(f"{name!r:.60} is not a baseline; choose from {shown}")
    period_ms = 0
    if name == "seasonal" and rest:
        period_ms = parse_duration(rest.pop(0))
        if period_ms not in PHASES:
            allowed = ", ".join(str(format_duration(one)) for one in PHASES)
            raise ValueError(f"seasonal: the period must be one of {allowed}, in {text!r:.80}")
    keys = tuple(key.strip() for key in rest.pop(0).split(",")) if rest else ()
    lacking = (name in ("last_of", "mean_of") and not keys) or (name == "seasonal" and not period_ms)
    if rest or not all(keys) or lacking or (keys and name not in USAGE):
        raise ValueError(f"{text!r:.80}: write {USAGE.get(name, name)}")
    return Rule(name, keys, period_ms)


def rule_fits(name: RuleName, *, numeric: bool, classes: bool, textual: bool) -> bool:
    """Whether a rule has a meaning for labels of a kind: no history is kept of labels that are text."""
    if name in ("majority", "popularity"):
        return classes
    if name in ("mean", "median"):
        return numeric
    return name == "last" or not textual
