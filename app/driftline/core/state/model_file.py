"""A model file: what `driftline train` makes and a shard loads.

One line of JSON that says what it is (the manifest), then the model as a pickle. A pickle can run code when it is read:
it is read through the allowlist of `core.pickle`, after its digest was compared, and only where the manifest says that
it was made by versions that can be read here, under a pipeline that this one's state could follow (`core.state.adopt`).
Whoever can write the control topic is further held off by the manifest's HMAC (`codec.keyring`).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from driftline.core.error import PipelineError, SnapshotError
from driftline.core.fault import STOPS
from driftline.core.fingerprint import readers, unreadable
from driftline.core.model.learner import Learner
from driftline.core.pickle.writer import check_depth
from driftline.core.pipeline import Pipeline, read_pipeline
from driftline.core.state.adopt import refused_keys
from driftline.core.state.form import conform_model
from driftline.core.state.freeze import load_model
from driftline.core.state.likeness import unlikeness

FORMAT = 1  # raised whenever the meaning of the bytes changes
MANIFEST_BYTES_MAX = 1_000_000

_Count = Annotated[int, Meta(ge=0, le=2**53)]


class Trained(Struct, frozen=True):
    """What a model file says of itself.

    Args:
        kind: distinguishes the file from others.
        format: version of the file's form.
        pipeline: the whole resolved pipeline that the model was trained under.
        versions, arithmetic: what made it.
        learned, scored: learn calls, and events, of its history.
        first_ms, last_ms: event times of its history, where it has any.
        metrics: of the predictions before each label was learned, over the whole history.
        size_bytes, sha256: of the model's bytes.
        diverged: how the model has left its labels behind, in a sentence; left out where it has not.
        signature: HMAC-SHA256 over all the above, empty where the deployment has no key.
    """

    kind: str
    format: int
    pipeline: dict[str, Any]
    versions: dict[str, str]
    arithmetic: str
    learned: _Count
    scored: _Count
    first_ms: int | None
    last_ms: int | None
    metrics: dict[str, float | None]
    size_bytes: _Count
    sha256: str
    signature: str = ""
    diverged: str | UnsetType = UNSET  # else not there at all: an earlier version signed without it


KIND = "driftline model"
NAMED_MAX = 4  # keys that differ


class UnfitError(SnapshotError):
    """A model file that cannot be used here; the text says why, and what to do."""


def parse(content: bytes) -> tuple[Trained, bytes]:
    """The manifest and the model's bytes, whole.

    Raises:
        UnfitError: it is not a model file, or it is damaged, or of another format.
    """
    end = content.find(b"\n", 0, MANIFEST_BYTES_MAX)
    try:
        document = msgspec.json.decode(content[:end]) if end > 0 else None
    except (ValueError, RecursionError):  # also msgspec's, and of text that is no UTF-8
        document = None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise UnfitError("this is not a model file; `driftline train` writes one")
    if document.get("format") != FORMAT:
        raise UnfitError(
            f"the model file has format {document.get('format')!r:.20}, this version reads {FORMAT}; train it again"
        )
    try:
        manifest = msgspec.convert(document, Trained)
    except (ValueError, RecursionError) as error:
        raise UnfitError(f"the model file's manifest cannot be read ({str(error)[:100]}); train it again") from error
    frozen = content[end + 1 :]
    if len(frozen) != manifest.size_bytes or hashlib.sha256(frozen).hexdigest() != manifest.sha256:
        raise UnfitError("the model file is damaged: its checksum does not match; copy it again, or train it again")
    return manifest, frozen


def check_versions(manifest: Trained) -> None:
    """Whether a model's bytes mean here what they meant where it was made.

    Raises:
        UnfitError: versions made it whose models cannot be read here (`core.fingerprint.unreadable`).
    """
    if (why := unreadable(manifest.versions)) is not None:
        raise UnfitError(
            f"the model was {why}; train it again with this one, or load it where {readers(manifest.versions)} runs"
        )


def check_pipeline(manifest: Trained, pipeline: Pipeline) -> None:
    """Whether a model may serve a pipeline. The file's own is compared, and nothing of it is built.

    Raises:
        UnfitError: it was trained under another one.
    """
    try:
        before = read_pipeline(manifest.pipeline).resolved()
    except (PipelineError, RecursionError):
        raise UnfitError("the model's pipeline cannot be read by this version; train it again") from None
    if refused := refused_keys(before, pipeline.resolved()):
        keys = ", ".join(refused[:NAMED_MAX]) + (f" and {len(refused) - NAMED_MAX} more" if refused[NAMED_MAX:] else "")
        raise UnfitError(f"the model was trained with another pipeline file: {keys} differ; train it with the worker's")


def model_of(pipeline: Pipeline, frozen: bytes) -> Any:
    """The model itself.

    Raises:
        UnfitError: its bytes name something outside the allowlist, or are not such a model.
    """
    try:
        model = load_model(pipeline, frozen)
    except SnapshotError as error:
        raise UnfitError(str(error)[:200]) from error
    try:
        learner = Learner(pipeline)
    except Exception as error:
        raise UnfitError(f"the pipeline's model cannot be built to compare ({str(error)[:100]})") from error
    try:
        if other := unlikeness(model, learner.model):
            raise UnfitError(f"the file holds a model that {other}; train it again")
        conform_model(model, learner.model, "model")
        learner.install(model)
        check_depth(learner.model)
    except (UnfitError, *STOPS):
        raise
    except BaseException as error:  # an object without its attributes raises anything
        raise UnfitError(
            f"the file's model does not work ({type(error).__name__}: {str(error)[:100]}); train it again"
        ) from error
    return model
