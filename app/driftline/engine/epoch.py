"""Epochs: under which pipeline, versions and arithmetic slices are folded, and what a change of them does to the state.

A change that the state can follow (a threshold, a metric, a longer wait) opens an epoch that keeps it. Any other change
of the pipeline file is refused with the keys that changed, unless the user asks for a fresh state. Which is which is in
`core.state.adopt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import UNSET

from driftline.codec.journal import EpochEntry, TopicIdentity
from driftline.core.error import InvariantError, PipelineError, RecoveryError, StateMismatchError
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.pipeline import Pipeline, read_pipeline
from driftline.core.pipeline.foreign import parse_foreign
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt, changed_keys, refused_keys
from driftline.core.state.freeze import dump, load


def enter_epoch(entry: EpochEntry, shard: Shard | None, partition: int, own: Pipeline) -> Shard:
    """The shard as an epoch begins: a new one, or the one before under the epoch's pipeline.

    A restored state is not made here: it is read from the snapshots topic (`engine.restored`).

    Args:
        own: of the operator's file; of what the journal says, nothing that this one does not vouch for is built.

    Raises:
        RecoveryError: the epoch's pipeline cannot be read, or is not to be built here.
    """
    try:
        pipeline = parse_foreign(entry.pipeline, own)
    except PipelineError as error:
        raise RecoveryError(
            f"the journal's epoch {entry.number} has a pipeline that cannot be built here ({error}). Go back to "
            f"Driftline {str(entry.versions.get('app'))[:20]} and the pipeline file of that epoch, or start with "
            "--reset-state"
        ) from error
    if entry.state == "fresh":
        fresh = Shard(pipeline, partition)
        if isinstance(entry.begun_ms, int):
            fresh.commands.floor_ms = entry.begun_ms
        return fresh
    if shard is None:
        raise InvariantError("the journal continues a state whose beginning is missing; restore its first entries")
    kept = load(pipeline, partition, dump(shard))
    adopt(kept, shard.pipeline)
    if entry.reason == "gap":
        kept.strays.begin_again()
    return kept


def next_epoch(
    last: EpochEntry | None,
    pipeline: Pipeline,
    positions: Mapping[str, int],
    slice_number: int,
    *,
    reset: bool,
    gap: bool = False,
    key: bool = False,
    now_ms: int = 0,
    topics: Mapping[str, TopicIdentity] | None = None,
    outputs: Mapping[str, int] | None = None,
    added: bool = False,
) -> EpochEntry | None:
    """The epoch entry to write before going on, or None when the last one still holds.

    Args:
        positions: where the inputs go on; they say which inputs the shard has.
        reset: the user asked for a fresh state.
        gap: input was lost, and the user chose to go on.
        key: another key signs from here on, or none does any more.
        now_ms: wall time.
        topics: inputs and journal, as they are now; None where that is not known.
        outputs: as of `EpochEntry`.
        added: inputs are among the positions that the shard did not have.

    Raises:
        StateMismatchError: the file changed in a way that the state cannot follow.
    """
    document = pipeline.resolved()
    reason: Literal["first", "pipeline", "version", "reset", "gap", "key", "topics"]
    if last is None:
        reason = "first"
    elif reset:
        reason = "reset"
    elif gap:
        reason = "gap"
    elif changed_keys(before := as_read_now(last.pipeline, pipeline.shards), document):
        if refused := refused_keys(before, document):
            raise StateMismatchError(
                f"the pipeline file changed in {', '.join(refused)}, so the state of {pipeline.name} cannot be kept. "
                "Undo the change, give the pipeline a new name, or start once with --reset-state (the model starts "
                "untrained; inputs continue from their current positions)"
            )
        reason = "pipeline"
    elif last.versions != versions() or last.arithmetic != arithmetic_fingerprint():
        reason = "version"
    elif key:
        reason = "key"
    elif added or (topics and last.topics and dict(topics) != last.topics) or (outputs or {}) != (last.outputs or {}):
        reason = "topics"
    else:
        return None
    return EpochEntry(
        number=last.number + 1 if last is not None else 1,
        reason=reason,
        state="fresh" if last is None or reset else "kept",
        positions=dict(positions),
        slice_number=slice_number,
        pipeline=document,
        versions=versions(),
        arithmetic=arithmetic_fingerprint(),
        begun_ms=now_ms if reset and last is not None else UNSET,
        topics=dict(topics) if topics else (last.topics if last is not None else UNSET),
        outputs=dict(outputs) if outputs else UNSET,
    )


def as_read_now(document: dict[str, Any], shards: int | None) -> dict[str, Any]:
    """A journaled pipeline with the settings that have come up since, at their defaults: those change nothing.

    Args:
        shards: that the journal has: of a file that did not say, the same. (Another number is refused elsewhere.)
    """
    try:
        return {**read_pipeline(document).resolved(), "shards": shards}
    except PipelineError:
        return document
