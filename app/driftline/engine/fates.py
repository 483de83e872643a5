"""Logs what becomes of labels, so that lost ones are not only visible in a topic."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from driftline.core.alert.condition import LOST, SILENT
from driftline.core.shard.state import Shard

EVERY_S: Final = 60.0
_LOST: Final = ("early", "orphan", "late", "duplicate", "rejected", "expired")

log = logging.getLogger(__name__)


class LabelLog:
    """Notes what became of the labels of a worker's shards, at most once a minute, and each of their problems once."""

    def __init__(self) -> None:
        self._noted_s = float("-inf")
        self._noted: dict[int, tuple[int, ...]] = {}
        self._logged: set[str] = set()

    def look(self, shards: Mapping[int, Shard], now_s: float) -> None:
        """Write down what is new.

        Args:
            shards: by partition.
            now_s: of a clock that never goes back.
        """
        names = set()
        for partition, shard in shards.items():
            for signal in (*LOST, SILENT):
                if (episode := shard.episodes.open.get(signal)) is not None:
                    names.add(episode.name)
                    if episode.name not in self._logged:
                        log.warning("shard %d: %s", partition, episode.sign.sentence)
        self._logged = names
        if now_s - self._noted_s >= EVERY_S:
            self._note(shards, now_s)

    def _note(self, shards: Mapping[int, Shard], now_s: float) -> None:
        counts = {partition: shard.label_counts() for partition, shard in shards.items() if shard.terms.labelled}
        lost = {partition: tuple(one[fate] for fate in _LOST) for partition, one in counts.items()}
        if lost == self._noted or not any(map(any, lost.values())):
            return
        self._noted_s, self._noted = now_s, lost
        for partition, one in sorted(counts.items()):
            if any(lost[partition]):
                log.info("labels of shard %d: %s", partition, _listed(one))
        if len(counts) > 1:
            log.info("labels of all %d: %s", len(counts), _listed({
                fate: sum(one[fate] for one in counts.values()) for fate in ("joined", *_LOST)
            }))  # fmt: skip


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[fate]:,} {fate}" for fate in ("joined", *_LOST))
