"""The trial of `driftline init` for slates: policies compared on the log, and plain words where it cannot tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

from driftline.author.logged import Logged
from driftline.backtest.policies import METRIC, Judged, Policies, judge
from driftline.backtest.run import cores
from driftline.cli.progress import bar
from driftline.cli.selection import number, say_untried
from driftline.cli.slates import Policy, SlateDraft
from driftline.config import read_pipeline
from driftline.ingest.gather import Gathered
from driftline.ingest.log import LogSource

REQUESTS_MIN: Final = 200
_SHOWN: Final = (METRIC, "DoublyRobustError", "SNIPS", "Support", "Effective")
_SHORT: Final = {"DoublyRobust": "reward", "DoublyRobustError": "+/-"}
_NAME_MAX: Final = 34
_WIDTH: Final = 110


@dataclass(frozen=True)
class SlateResult:
    """What a trial found.

    Args:
        policies: None where the log can tell of none; `mute` says why.
        chosen: to be written.
        alike: others that the log cannot tell from it.
        sure: better than popularity by more than chance.
    """

    policies: Policies | None
    known: dict[str, Policy]
    chosen: Policy
    alike: tuple[str, ...]
    sure: bool
    requests: int
    delay_ms: int
    mute: str = ""

    def lines(self) -> Iterator[str]:
        """The table and the verdict, for the terminal."""
        yield ""
        yield from self._table()
        yield self._verdict()

    def comment(self) -> Iterator[str]:
        """The same for the file."""
        yield from self._table()
        yield from wrap(self._verdict(), _WIDTH)
        yield ""

    def document(self) -> dict[str, Any] | None:
        """The same for programs."""
        if self.policies is None:
            return None
        return {
            "rows": self.requests,
            "labels": self.policies.requests,
            "label_delay_ms": self.delay_ms,
            "metric": METRIC,
            "candidates": [
                {"name": one.name, "baseline": self.known[one.name].baseline, "metrics": dict(one.values)}
                for one in self.policies.judged
            ],
            "chosen": self.chosen.name,
        }

    def _table(self) -> Iterator[str]:
        if self.policies is None:
            return
        yield (
            f"Policies on {self.requests:,} requests; estimates of what the last {self.policies.requests:,} would have "
            "earned, each:"
        )
        yield "  ".join(["  " + "".ljust(_NAME_MAX), *(f"{_SHORT.get(name, name):>9}" for name in _SHOWN)])
        for one in self.policies.judged:
            kind = "baseline: " if self.known[one.name].baseline else ""
            mark = " *" if one.name == self.chosen.name else ""
            cells = [f"{number(one.values.get(name)):>9}" for name in _SHOWN]
            yield "  ".join(["  " + (kind + one.name).ljust(_NAME_MAX), *cells]) + mark
        if self.policies.logged is not None:
            yield f"  {'what was shown':{_NAME_MAX}}  {number(self.policies.logged):>9}"

    def _verdict(self) -> str:
        explores = f"{self.chosen.name} is written: it explores, and logs how likely each choice was, so that a "
        explores += "backtest of its topics can tell after some days"
        if self.policies is None:
            return f"* THE LOG CANNOT TELL which policy is better: {self.mute}. {explores}."
        best = next((one for one in self.policies.judged if one.reward is not None), None)
        if best is None:
            doubt = next((one.doubt or one.failure for one in self.policies.judged if one.name == self.chosen.name), "")
            doubt = doubt.removeprefix("the log cannot tell what this policy would have earned: ")
            return f"* THE LOG CANNOT TELL which policy is better: {doubt}. {explores}."
        return f"{self._found_best(best)}{self._untold()}"

    def _found_best(self, best: Judged) -> str:
        known = {one.name: one for one in self.policies.judged} if self.policies is not None else {}
        popular = next((known[name] for name, one in self.known.items() if name in known and one.baseline), best)
        chosen = known[self.chosen.name]
        doubt = f" But {chosen.doubt}." if chosen.doubt else ""
        reward, usual = number(chosen.reward), number(popular.reward)
        if self.chosen.baseline:
            return f"* NO POLICY BEATS POPULARITY: {usual} a request. The file shows just that, and explores.{doubt}"
        if popular.reward is None:
            return f"* {chosen.name} is best: {reward} a request. Of popularity the log cannot tell: {popular.doubt}."
        if self.sure:
            span = f"by {number(chosen.low)} to {number(chosen.high)}"
            better = f"{reward} a request, popularity {usual}: better {span}"
            if self.alike:
                return f"* {chosen.name}: {better}. The log cannot tell it from {', '.join(self.alike)}.{doubt}"
            return f"* {chosen.name} is best: {better}.{doubt}"
        return (
            f"* {chosen.name} has the best estimate, {reward} a request, but THE LOG CANNOT TELL IT FROM POPULARITY "
            f"({usual}; the difference is from {number(chosen.low)} to {number(chosen.high)}). It is written, since "
            f"it learns.{doubt}"
        )

    def _untold(self) -> str:
        """Of which policies the log says nothing."""
        judged = self.policies.judged if self.policies is not None else ()
        names = [one.name for one in judged if one.reward is None and one.name != "popularity"]
        return f" Of {', '.join(names)} the log cannot tell." if names else ""


class SlateTrial:
    """A trial of policies on the first requests of a log.

    Args:
        folder: for files that are needed until then.
        requests, rewards: the log.
    """

    def __init__(self, found: Logged, log: Gathered, folder: Path, requests: Path, rewards: Path) -> None:
        self._found, self._log, self._folder = found, log, folder
        self._requests, self._rewards = requests, rewards

    def run(self, draft: SlateDraft) -> SlateResult | None:
        """Try; None where nothing was found, and it prints why."""
        named = {one.name: one for one in draft.policies}
        count = min(self._log.requests, self._log.head)
        if why := self._mute():
            result = SlateResult(None, named, draft.policies[1], (), False, count, draft.label_delay_ms, why)
            draft.decide(result.chosen, tuple(result.comment()))
            return result
        if count < REQUESTS_MIN:
            say_untried(f"{count:,} requests are too few")
            return None
        pipelines = {name: read_pipeline(draft.text_of(one), spare=True) for name, one in named.items()}
        rewards = self._folder / "head.jsonl"
        with self._rewards.open("rb") as file:
            rewards.write_bytes(b"".join(islice(file, self._log.head_rewards)))
        source = LogSource(self._requests, rewards, limit=count)
        with bar(False) as moved:
            found = judge(pipelines, source, count, processes=min(2, cores()), moved=moved)
        if found.stopped:
            say_untried("it was stopped")
            return None
        result = _chosen(found, draft, count)
        draft.decide(result.chosen, tuple(result.comment()))
        return result

    def _mute(self) -> str:
        """Why the log can tell of no policy; empty where it may."""
        found, log = self._found, self._log
        if log.propensities < log.items:
            return (
                "it does not say how likely each item was to be shown. If slates were drawn at random, add a column "
                "`propensity`: items shown over items there"
            )
        if found.kind == "shown" and len(log.shown) <= found.slate:
            return f"only {len(log.shown):,} items were ever shown, as many as a slate has"
        return ""


def _chosen(found: Policies, draft: SlateDraft, count: int) -> SlateResult:
    """The best, other than what is shown at random; of those within a standard error of it the first that was named."""
    named, delay_ms = {one.name: one for one in draft.policies}, draft.label_delay_ms
    told = [one for one in found.judged if one.reward is not None and named[one.name].policy != "uniform"]
    best = next(iter(told), None)
    if best is None or named[best.name].baseline:
        chosen = draft.policies[1] if best is None else named[best.name]
        return SlateResult(found, named, chosen, (), False, count, delay_ms)
    least = (best.reward or 0.0) - (best.values.get(f"{METRIC}Error") or 0.0)
    alike = {one.name: one for one in told if (one.reward or 0.0) >= least and not named[one.name].baseline}
    first = next(name for name in named if name in alike)
    low = alike[first].low
    others = tuple(name for name in alike if name != first)
    return SlateResult(found, named, named[first], others, low is not None and low > 0, count, delay_ms)
