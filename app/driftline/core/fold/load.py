"""An operator's model takes over: `driftline control load`.

Whether a model may serve is judged once, when the part that makes it whole is folded for the first time: by then the
versions of River and Python, the pipeline, the deployment's key and the bytes themselves have their say. A refusal is
noted in the slice's journal entry, like the calls at which a model raised. A replay does as the journal says and judges
nothing, since it may run elsewhere and later; it only reads what was accepted, through the same allowlist.
"""

from __future__ import annotations

from typing import Any

from driftline.core.alert.content import load_sign
from driftline.core.error import RecoveryError
from driftline.core.fold.incident import notice_change, reject
from driftline.core.oracle import Oracle
from driftline.core.record import Chunk, Control, Source
from driftline.core.shard.command import Refused
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard
from driftline.core.state.model_file import Trained, UnfitError, check_pipeline, check_versions, model_of, parse

DETAIL_MAX = 300  # characters of a refusal in the journal


def refused(shard: Shard, control: Control, oracle: Oracle) -> Refused | None:
    """Why a command is not to be carried out, or None; from then on it counts as taken."""
    detail = oracle.refusal(f"command {control.source.offset}", control)
    if detail is not None:
        return Refused("control_refused", detail)
    return shard.commands.take(control, shard.loading.load)


def take_chunk(shard: Shard, chunk: Chunk, source: Source, by: str, out: Outbox) -> None:
    """Take in a part of a model file; the part that makes it whole puts the model to work."""
    loading = shard.loading
    shard.count("load_parts")
    superseded = loading.superseded
    found = loading.take(chunk, shard.now_ms)
    if loading.superseded != superseded:
        shard.count("load_superseded")
    if loading.deadline_ms is not None:
        shard.watch.time_due_ms = min(shard.watch.time_due_ms, loading.deadline_ms)
    if isinstance(found, Refused):
        reject(shard, source, found.reason, found.detail, out)
    elif found is not None:
        _load(shard, chunk, found, source, by, out)


def _load(shard: Shard, chunk: Chunk, content: bytes, source: Source, by: str, out: Outbox) -> None:
    oracle, call = out.oracle, f"load {chunk.load}"
    try:
        manifest, model, frozen = (
            _again(shard, oracle, call, content) if oracle.replays else _judged(shard, oracle, content)
        )
    except UnfitError as error:
        detail = str(error)[:DETAIL_MAX]
        oracle.add(call, detail)
        reject(shard, source, "load_refused", detail, out)
        return
    shard.learner.load(model, frozen, manifest.learned)
    shard.reactor.forget()
    shard.count("control_load")
    notice_change(shard, load_sign(shard.pipeline, chunk.load, manifest.learned, manifest.sha256, by), out)


def _judged(shard: Shard, oracle: Oracle, content: bytes) -> tuple[Trained, Any, bytes]:
    """The model, if it may serve here and now.

    Raises:
        UnfitError: it may not.
    """
    manifest, frozen = parse(content)
    if (refusal := oracle.vouch(content)) is not None:
        raise UnfitError(refusal)
    check_versions(manifest)
    check_pipeline(manifest, shard.pipeline)
    return manifest, model_of(shard.pipeline, frozen), frozen


def _again(shard: Shard, oracle: Oracle, call: str, content: bytes) -> tuple[Trained, Any, bytes]:
    """The model that the journal says was put to work.

    Raises:
        UnfitError: it was refused then.
        RecoveryError: it cannot be read here.
    """
    if (detail := oracle.known.get(call)) is not None:
        raise UnfitError(detail)
    try:
        manifest, frozen = parse(content)
        return manifest, model_of(shard.pipeline, frozen), frozen
    except UnfitError as error:
        raise RecoveryError(
            f"a model was loaded into shard {shard.number} that cannot be read here ({error}). Go back to the "
            "versions that folded it, or start with --reset-state and load a model that was trained with these"
        ) from error
