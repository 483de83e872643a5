"""Drift signals of a feature other than the rank of its numbers.

season     numbers: the rank among values of the same time of day, week or year
novelty    texts: 1 where the value was not among the first `reference_size`, else 0
rate       texts: 1 where it is that value, else 0, for each of the `categories_max` most frequent of the
           first `reference_size`
vocabulary texts of many words: the share of words that were not seen lately
bits       1 where the value has a property, else 0: that it is missing, for one
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from zlib import crc32

from driftline.core.drift.monitor import Chosen, Drift, Monitor, make_monitors
from driftline.core.drift.reference import Season
from driftline.core.record import FeatureValue
from driftline.core.signal import OfFeature, Signal

SLOTS: Final = 32_768
TEXT_WORDS_MAX: Final = 1_000  # of each text, the first
_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")
VALUE_SHOWN = 40  # characters of a category in the name of its signal


class ValueWatch:
    """Something about one feature, by one or more monitors."""

    def observe(self, value: FeatureValue, time_ms: int | None) -> list[Drift]:
        """Watch one event.

        Args:
            value: of the feature; None where it is omitted.
            time_ms: the event's time; None where it is not to be trusted.
        """
        raise NotImplementedError

    def monitors(self) -> Iterator[Monitor]:
        raise NotImplementedError


class SeasonWatch(ValueWatch):
    """The numbers of a feature, compared like with like."""

    def __init__(self, name: str, season: Season, monitor: Monitor) -> None:
        self.name = name
        self.season = season
        self.monitor = monitor

    def observe(self, value: FeatureValue, time_ms: int | None) -> list[Drift]:
        if time_ms is None or not isinstance(value, int | float):
            return []
        rank = self.season.rank(value, time_ms)
        found = None if rank is None else self.monitor.update(rank, natural=value)
        return [] if found is None else [found]

    def monitors(self) -> Iterator[Monitor]:
        yield self.monitor


class MissingWatch(ValueWatch):
    """How often a feature's values have the property that `OfFeature.bit` names: that they are missing, for one.

    Its name stands in states, and is that of the first such signal.
    """

    def __init__(
        self, signal: Signal, name: str, fill: FeatureValue, chosen: Sequence[Chosen], warning_span: int
    ) -> None:
        self.fill = fill
        self._monitors = make_monitors(signal, name, list(chosen), warning_span=warning_span)
        self._connect()

    def _connect(self) -> None:
        feed = Signal.read(self._monitors[0].signal)[0].row.origin if self._monitors else None
        self._bit = feed.bit if isinstance(feed, OfFeature) else None

    def __getstate__(self) -> dict[str, object]:
        return {"fill": self.fill, "_monitors": self._monitors}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._connect()

    def observe(self, value: FeatureValue, time_ms: int | None) -> list[Drift]:
        return [] if self._bit is None else _update(self._monitors, self._bit(value, self.fill))

    def monitors(self) -> Iterator[Monitor]:
        yield from self._monitors


class CategoryWatch(ValueWatch):
    """The texts of a feature: how often there are new ones, and the rate of each of the frequent ones.

    Args:
        chosen: detectors; each is used for the novelty, and copied for each rate.
        size: how many values form the reference.
        rate_max: how many rates are watched.

    Invariant: at most `size` texts are kept.
    Cost: an update of the detector for the novelty and for each rate.
    """

    def __init__(self, name: str, chosen: Sequence[Chosen], size: int, rate_max: int, warning_span: int) -> None:
        self.name = name
        self.size = size
        self.rate_max = rate_max
        self.warning_span = warning_span
        self.known: dict[FeatureValue, int] = {}
        self.seen = 0
        self._chosen = [copy.deepcopy(one) for one in chosen]
        self._novelty = make_monitors(Signal.NOVELTY, name, list(chosen), warning_span=warning_span)
        self._rates: list[tuple[FeatureValue, list[Monitor]]] = []

    def observe(self, value: FeatureValue, time_ms: int | None) -> list[Drift]:
        if value is None:
            return []
        if self.seen < self.size:
            self.known[value] = self.known.get(value, 0) + 1
            self.seen += 1
            if self.seen == self.size:
                self._freeze()
            return []
        found = _update(self._novelty, value not in self.known)
        for one, monitors in self._rates:
            found += _update(monitors, value == one)
        return found

    def _freeze(self) -> None:
        frequent = [value for value, _ in Counter(self.known).most_common(self.rate_max)]
        if len(self.known) == 2:
            del frequent[1:]  # the other one's rate says the same
        for place, value in enumerate(frequent, 1):
            text = str(value)
            shown = text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}~{place}"
            chosen = [copy.deepcopy(one) for one in self._chosen]
            what = f"{self.name}={shown}"
            self._rates.append((value, make_monitors(Signal.RATE, what, chosen, warning_span=self.warning_span)))

    def monitors(self) -> Iterator[Monitor]:
        yield from self._novelty
        for _, monitors in self._rates:
            yield from monitors


class VocabularyWatch(ValueWatch):
    """The words of a feature's texts: what share of each text's were not seen lately.

    Words are runs of letters and digits, whatever their case; digits count as one digit, so that every amount or id of
    a length is one word. The words of the first `size` texts are learned, and no more.

    Args:
        chosen: detectors, which see the share.

    Which words were seen is kept in `SLOTS` slots of two bytes: a new word takes the place of the one that was in its
    slot. So what is forgotten is forgotten little by little: a steady stream comes to a steady share.

    Cost: 64 KiB, and 0.5 us a word.
    """

    def __init__(self, name: str, chosen: Sequence[Chosen], size: int, warning_span: int) -> None:
        self.name = name
        self.size = size
        self.seen = 0
        self._slots = bytearray(2 * SLOTS)
        self._monitors = make_monitors(Signal.VOCABULARY, name, list(chosen), warning_span=warning_span)

    def observe(self, value: FeatureValue, time_ms: int | None) -> list[Drift]:
        share = self.share_of_new(value) if isinstance(value, str) else None
        if share is None:
            return []
        if self.seen < self.size:
            self.seen += 1
            return []
        return _update(self._monitors, share)

    def share_of_new(self, text: str) -> float | None:
        """The share of a text's different words that are new, which are known from then on; None where it has none."""
        words = dict.fromkeys(islice(_words_of(text), TEXT_WORDS_MAX))
        if not words:
            return None
        new, slots = 0, self._slots
        for word in words:
            name = crc32(word.encode("utf-8", "surrogatepass"))
            place, sign = 2 * (name % SLOTS), name // SLOTS % 65_535 + 1  # 0 is an empty slot
            if slots[place] != sign >> 8 or slots[place + 1] != sign & 255:
                slots[place], slots[place + 1] = sign >> 8, sign & 255
                new += 1
        return new / len(words)

    def monitors(self) -> Iterator[Monitor]:
        yield from self._monitors


def _words_of(text: str) -> Iterator[str]:
    return (found[0] for found in _WORD.finditer(_DIGIT.sub("0", text.casefold())))


def _update(monitors: Sequence[Monitor], value: float) -> list[Drift]:
    found = [monitor.update(float(value)) for monitor in monitors]
    return [one for one in found if one is not None]
