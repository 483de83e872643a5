"""The documents behind the page, made of the board: bounded, and plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from driftline.core.alert.kind import worded
from driftline.core.pipeline import Pipeline
from driftline.core.task import task_of
from driftline.core.wording import RUNGS
from driftline.operate.webhook import section_of
from driftline.web.board import CRITICAL, ONCE, Board, Episode, Shard, Worker
from driftline.web.change import Version
from driftline.web.curve import Point
from driftline.web.kpi import kpis_of
from driftline.web.record import NAME_MAX, NAMES_MAX, Guard, Review, Score, Trip, cut, evidence_of, plain, plain_all
from driftline.web.verdict import Situation, verdict_of

EPISODES_SHOWN = 100
REVIEWS_SHOWN = 50
VERSIONS_SHOWN = 50
SHARDS_SHOWN = 64

Section = dict[str, Any] | list[Any]


def sections(board: Board, pipeline: Pipeline, situation: Situation) -> dict[str, Section]:
    """All that may change, by section; those that did are sent."""
    verdict = verdict_of(board, situation)
    return {
        "verdict": msgspec.to_builtins(verdict),
        "numbers": _numbers(board, pipeline, situation),
        "shards": [_shard(one, situation, board.read_ms) for one in list(board.shards.values())[:SHARDS_SHOWN]],
        "workers": {
            "known": board.workers is not None,
            "whole": board.whole,
            "first": [_worker(one) for one in (board.workers or {}).values()],
        },
        "kpis": kpis_of(one.note.kpi for one in board.shards.values() if one.note is not None),
        "versions": [_version(one) for one in list(board.versions)[: -VERSIONS_SHOWN - 1 : -1]],
        "episodes": _episodes(board, pipeline.alerts.runbook),
        "reviews": {
            "waiting": len(board.reviews),
            "decided": board.decided,
            "first": [
                _review(one) for one in sorted(board.reviews.values(), key=lambda one: one.deadline_ms)[:REVIEWS_SHOWN]
            ],
        },
        "scores": [_score(one) for one in sorted(board.scores, key=lambda one: -one.event_time_ms)],
        "marks": [msgspec.to_builtins(mark) for mark in board.marks],
    }


def history(board: Board) -> Iterable[Point]:
    """All points."""
    return (point for shard in list(board.shards.values())[:SHARDS_SHOWN] for point in shard.curve.points)


def about(pipeline: Pipeline, *, actions: bool, explains: bool, version: str) -> dict[str, Any]:
    """What does not change while a worker runs."""
    metrics = task_of(pipeline.task).measure.metrics
    return {
        "pipeline": pipeline.name,
        "task": pipeline.task,
        "labelled": pipeline.label is not None,
        "priced": bool(pipeline.kpi),
        "guarded": pipeline.guard is not None,
        "holds": pipeline.topics.review is not None,
        "topics": {"events": pipeline.topics.events, "labels": pipeline.topics.labels},
        "actions": actions,
        "explains": explains,
        "better": {one.name: "higher" if one.better > 0 else "lower" for one in metrics if one.better},
        "version": version,
    }


def _numbers(board: Board, pipeline: Pipeline, situation: Situation) -> dict[str, Any]:
    """The pipeline as a whole."""
    shards = [one for one in board.shards.values() if one.note is not None]
    notes = [one.note for one in shards if one.note is not None]
    rates = [one.rates(situation.now_ms) for one in shards]
    known = situation.away_ms is None and bool(shards)
    behind = {
        topic: sum(one.behind.get(topic, 0) for one in shards)
        for topic in (pipeline.topics.events, pipeline.topics.labels)
        if topic is not None
    }
    coverage = [note.coverage for note in notes if note.coverage is not None]
    delays = [note.label_delay_ms for note in notes if note.label_delay_ms.get("0.5") is not None]
    return {
        "events_s": round(sum(one for one, _ in rates), 2) if known else None,
        "labels_s": round(sum(one for _, one in rates), 2) if known else None,
        "lag": behind if known and any(one.behind for one in shards) else None,
        "coverage": min(coverage, default=None),
        "delay_ms": {share: max((one.get(share) or 0 for one in delays), default=None) for share in ("0.5", "0.9")},
        "scored": sum(note.counts.get("scored", 0) for note in notes),
        "learned": sum(note.counts.get("learned", 0) for note in notes),
        "pending": sum(note.pending for note in notes),
        "early": sum(note.early for note in notes),
        "held": sum(note.guard.held for note in notes if note.guard is not None),
        "watermark_ms": max((note.watermark_ms for note in notes if note.watermark_ms is not None), default=None),
        "as_of_ms": max((one.moved_ms for one in shards), default=None),
    }


def _shard(shard: Shard, situation: Situation, read_ms: int) -> dict[str, Any]:
    note, here = shard.note, situation.away_ms is None
    events_s, labels_s = shard.rates(situation.now_ms)
    known: dict[str, Any] = {}
    if note is not None:
        known = {
            "version": cut(note.version, 40),
            "full": note.full,
            "frozen": note.frozen,
            "untrained": note.known == 0,
            "pending": note.pending,
            "learned": note.counts.get("learned", 0),
            "scored": note.counts.get("scored", 0),
            "watermark_ms": note.watermark_ms,
            "coverage": note.coverage,
            "delay_ms": note.label_delay_ms.get("0.5"),
            "known": note.known,
            "instead": plain_all(note.guard.instead) if note.guard is not None else {},
            "second": _second(note.guard),
            "held_labels": note.learning.held if note.learning is not None else 0,
            "stopped": note.learning is not None and note.learning.stopped,
            "loading": note.loading,
            "metrics": plain_all(note.metrics),
        }
    return {
        "number": shard.number,
        "moved_ms": shard.moved_ms or None,
        "silent_s": shard.backlog.silent_ms(read_ms) // 1000 if here and shard.backlog.is_silent(read_ms) else None,
        "behind": sum(shard.behind.values()) if shard.behind and here else None,
        "events_s": round(events_s, 2) if here else None,
        "labels_s": round(labels_s, 2) if here else None,
        **known,
    }


def _second(guard: Guard | None) -> dict[str, Any] | None:
    """How good the guard's second model is, and whether it fails; None without one."""
    second = None if guard is None else guard.second_model
    if second is None:
        return None
    return {
        "version": cut(second.version, 40),
        "served": second.served,
        "failed": second.failed,
        "labels": second.labels,
        "error": plain(second.error),
        "first_error": plain(second.first_error),
    }


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "name": cut(worker.name, NAME_MAX),
        "host": cut(worker.host, NAME_MAX),
        "shards": worker.shards,
        "since_ms": worker.since_ms,
        "gone_ms": worker.gone_ms,
    }


def _version(version: Version) -> dict[str, Any]:
    return {
        "shard": version.shard,
        "generation": version.generation,
        "cause": version.cause,
        "text": cut(version.text),
        "learned": version.learned,
        "wall_ms": version.wall_ms,
        "time_ms": version.time_ms,
        "exact": version.exact,
        "from_ms": version.from_ms,
    }


def _episodes(board: Board, runbook: str) -> dict[str, Any]:
    """Open ones first, the worst and then the latest of them; then those that are over."""
    there = list(reversed(board.episodes.values()))
    there.sort(key=lambda one: (not one.is_open, one.is_open and one.alert.severity != CRITICAL))
    noted = {name for shard in board.shards.values() if shard.note is not None for name in shard.note.episodes}
    unread = sorted(noted - board.episodes.keys())
    return {
        "open": sum(one.is_open for one in there) + len(unread),
        "first": [_episode(one, runbook) for one in there[:EPISODES_SHOWN]],
        "unread": [cut(name, NAME_MAX) for name in unread[:EPISODES_SHOWN]],
    }


def _episode(episode: Episode, runbook: str) -> dict[str, Any]:
    alert = episode.alert
    return {
        "episode": alert.episode,
        "shard": episode.shard,
        "state": "reported" if alert.kind == ONCE and not episode.is_open else episode.state,
        "kind": cut(alert.kind, NAME_MAX),
        "what": cut(worded(alert.kind), NAME_MAX),
        "severity": cut(alert.severity, NAME_MAX),
        "audience": [cut(role, NAME_MAX) for role in alert.audience[:NAMES_MAX]],
        "sentence": cut(alert.sentence),
        "opening": episode.opening,
        "opened_ms": alert.opened_ms,
        "time_ms": alert.time_ms,
        "opened_wall_ms": episode.opened_wall_ms,
        "wall_ms": episode.wall_ms,
        "update": alert.update,
        "runbook": section_of(alert.runbook, runbook),
        "acknowledged": alert.acknowledged,
        "acknowledged_by": cut(alert.acknowledged_by, NAME_MAX),
        "silenced": alert.silenced,
        "flapping": alert.flapping,
        "evidence": evidence_of(alert),
    }


def _trips(trips: list[Trip]) -> list[dict[str, Any]]:
    return [
        {
            "rung": cut(trip.rung, NAME_MAX),
            "why": RUNGS.get(trip.rung, cut(trip.rung, NAME_MAX)),
            "action": cut(trip.action, NAME_MAX),
            "limit": plain(trip.limit),
            "excess": plain(trip.excess),
            "feature": cut(trip.feature, NAME_MAX),
        }
        for trip in trips[:NAMES_MAX]
    ]


def _score(score: Score) -> dict[str, Any]:
    return {
        "output_id": cut(score.output_id, 500),
        "event_id": cut(score.event_id, NAME_MAX),
        "time_ms": score.event_time_ms,
        "guard": cut(score.guard, NAME_MAX),
        "version": cut(score.model_version, 40),
        "prediction": plain([one.get("item") if isinstance(one, dict) else one for one in score.slate[:5]])
        if score.slate
        else plain(score.prediction),
        "probability": score.probability,
        "decision": score.decision,
        "instead": cut(score.instead, NAME_MAX),
        "tripped": _trips(score.tripped),
    }


def _review(review: Review) -> dict[str, Any]:
    at: Mapping[str, Any] = review.at_deadline or {}
    return {
        "output_id": cut(review.output_id, 500),
        "event_id": cut(review.event_id, NAME_MAX),
        "time_ms": review.event_time_ms,
        "deadline_ms": review.deadline_ms,
        "version": cut(review.model_version, 40),
        "prediction": plain(review.prediction),
        "probability": review.probability,
        "tripped": _trips(review.tripped),
        "features": plain_all(review.features),
        "last_value": plain(review.last_value),
        "at_deadline": plain(at.get("probability", at.get("prediction"))),
        "instead": cut(at.get("instead") or "", NAME_MAX),
    }
