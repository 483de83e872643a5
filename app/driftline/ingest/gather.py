"""Rows of logged recommendations as requests and rewards: the two files that a backtest of slates reads.

Rows of one request stand near each other, but maybe not together: a request is over `SPAN` rows after its first. What
comes later is a bad row, since the request has been written by then. Requests are written in the order of their first
rows, so memory does not grow with the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import orjson

from driftline.codec.decode import MISSING, find
from driftline.codec.wire import set_path
from driftline.core.pipeline import Pipeline, parse_path
from driftline.core.pipeline.feature import Feature
from driftline.ingest.column import Fields
from driftline.ingest.rows import Bad
from driftline.ingest.table import Sample, Table

SPAN: Final = 1_000  # rows
_START_MS: Final = 946_684_800_000  # rows without times end at 2000-01-01, as in `history`

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where in a row is what, as paths.

    Args:
        reward: a number, true or false, or `positive`; without `item` the item that earned 1.
        item: that was shown.
        listed: the candidates; without `item` those that were shown.
        propensity: of the item.
        label_id, label_item, label_value, label_time: in a reward that is written.
    """

    reward: str
    positive: str | None
    item: str | None
    listed: str | None
    propensity: str | None
    label_id: str
    label_item: str
    label_value: str
    label_time: str
    shown: str


@dataclass
class Gathered:
    """What was written.

    Args:
        head: requests, at most, whose rewards are counted in `head_rewards`.
        shown: how often each item was.
        earned: sum of all rewards.
        propensities: of the items shown, how many have one.
    """

    head: int
    requests: int = 0
    rewards: int = 0
    head_rewards: int = 0
    items: int = 0
    propensities: int = 0
    earned: float = 0.0
    first_ms: int = 0
    last_ms: int = 0
    shown: Counter[str] = field(default_factory=Counter)


@dataclass
class _Request:
    """One request in the making."""

    id: str | int
    time_ms: int
    begun: int
    row: Row
    shown: dict[str, tuple[Any, float | None]] = field(default_factory=dict)  # by id: as it is written, its propensity
    rewards: dict[str, float] = field(default_factory=dict)


class Gathering:
    """Reads a file of rows, and writes requests and rewards.

    Args:
        path: the file.
        pipeline: reads a row: the fields of a request, and its reward, item and propensity as features or context.
        wanted: features of a request that are written, by name.

    Attributes:
        bad: rows that could not be used.
    """

    def __init__(
        self, path: Path, pipeline: Pipeline, fields: Fields, places: Places, wanted: Mapping[str, Feature]
    ) -> None:
        self._table = Table(path, pipeline, fields, now_ms=_START_MS)
        self._event, self._places = pipeline.event, places
        self._wanted = {name: feature.keys for name, feature in wanted.items()}
        self._open: dict[str | int, _Request] = {}
        self._closed: set[str | int] = set()
        self._find = {name: parse_path(path) for name, path in vars(places).items() if isinstance(path, str)}

    @property
    def bad(self) -> Bad:
        return self._table.bad

    def write(self, requests: Path, rewards: Path, *, delay_ms: int, head: int) -> Gathered:
        """Write both files.

        Args:
            delay_ms: how much later than its request a reward came.
            head: see `Gathered`.

        Raises:
            OSError: a file cannot be written.
        """
        made = Gathered(head)
        with ExitStack() as stack:
            events, labels = (stack.enter_context(path.open("wb")) for path in (requests, rewards))
            for one in self._requests():
                events.write(orjson.dumps(self._document(one)) + b"\n")
                earned = self._rewards(one, one.time_ms + max(delay_ms, 1))  # a label goes before an event of its time
                labels.writelines(orjson.dumps(reward) + b"\n" for reward in earned)
                self._count(made, one, len(earned))
        return made

    @staticmethod
    def _count(made: Gathered, one: _Request, rewards: int) -> None:
        made.first_ms = one.time_ms if not made.requests else min(made.first_ms, one.time_ms)
        made.last_ms = max(made.last_ms, one.time_ms)
        made.requests += 1
        made.rewards += rewards
        made.items += len(one.shown)
        made.propensities += sum(share is not None for _, share in one.shown.values())
        made.earned += sum(one.rewards.values())
        made.shown.update(one.shown.keys())
        if made.requests <= made.head:
            made.head_rewards = made.rewards

    def _requests(self) -> Iterator[_Request]:
        number = 0
        for number, sample in enumerate(self._table.samples()):
            self._take(number, sample)
            while self._open and number - (first := next(iter(self._open.values()))).begun >= SPAN:
                yield self._close(first)
        while self._open:
            yield self._close(next(iter(self._open.values())))

    def _close(self, one: _Request) -> _Request:
        del self._open[one.id]
        self._closed.add(one.id)
        return one

    def _take(self, number: int, sample: Sample) -> None:
        """One row, which is named as a bad one where it cannot be used."""
        row = sample.event
        if sample.event_id in self._closed:
            self.bad.add(number + 1, f"rows of the request {sample.event_id!r:.80} are more than {SPAN:,} rows apart")
            return
        one = self._open.get(sample.event_id)
        if one is None:
            one = self._open[sample.event_id] = _Request(sample.event_id, sample.time_ms, number, row)
        reward, propensity = self._at("reward", row), self._at("propensity", row)
        if self._places.item is None:
            for item in _list(self._at("listed", row)):
                one.shown.setdefault(str(_id(item)), (_id(item), None))
            if str(reward) in one.shown:
                one.rewards[str(reward)] = 1.0
            return
        item = self._at("item", row)
        if isinstance(item, float) and item.is_integer():
            item = int(item)
        one.shown.setdefault(str(item), (item, propensity))
        earned = self._number(reward)
        one.rewards[str(item)] = max(earned, one.rewards.get(str(item), earned))

    def _number(self, reward: Any) -> float:
        """A reward as a number; what is missing earned nothing."""
        if reward is None:
            return 0.0
        positive = self._places.positive
        return float(reward) if positive is None else float(reward == positive)

    def _at(self, name: str, row: Row) -> Any:
        """What stands in a row; None where nothing does."""
        keys = self._find.get(name)
        found = MISSING if keys is None else find(row, keys)
        return None if found is MISSING else found

    def _document(self, one: _Request) -> Row:
        """A request as the pipeline reads it, with what was shown."""
        made: Row = {}
        set_path(made, parse_path(self._event.id), one.id)
        set_path(made, parse_path(self._event.time or self._places.label_time), one.time_ms)
        for keys in self._wanted.values():
            value = find(one.row, keys)
            if value is not MISSING and value is not None:
                set_path(made, keys, value)
        if self._places.item is not None and self._places.listed is not None:
            set_path(made, self._find["listed"], _list(self._at("listed", one.row)))
        shown = [
            item if share is None else {"item": item, "propensity": share} for item, share in one.shown.values()
        ]  # fmt: skip
        set_path(made, self._find["shown"], shown)
        return made

    def _rewards(self, one: _Request, time_ms: int) -> list[Row]:
        """The rewards that are not 0, which is what an item without one has earned."""
        made = []
        for item, reward in one.rewards.items():
            if reward:
                label: Row = {}
                for name, value in (
                    ("label_id", one.id), ("label_item", one.shown[item][0]), ("label_value", reward),
                    ("label_time", time_ms),
                ):  # fmt: skip
                    set_path(label, self._find[name], value)
                made.append(label)
        return made


def _list(value: Any) -> list[Any]:
    """A list of items, which a table has as text."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.MsgspecError:
            return []
    return value if isinstance(value, list) else []


def _id(item: Any) -> Any:
    return item.get("item") if isinstance(item, dict) else item
