"""A state file: what `driftline state save` makes, and `driftline state restore` puts to work.

One line of JSON that says what the file is and, of each shard, what its state is (the manifest of a snapshot), then of
each shard, in that order, the parts of its ledger's segments (a body and its marks in turn) and its head. Each manifest
names the digest of its head, whose index names the digest of each part, and the line is signed: so one HMAC is over all
of it, and all of it is checked before a byte is unpickled.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import Meta, Struct, structs

from driftline.codec.journal import NOT_OURS
from driftline.codec.keyring import KeyRing
from driftline.codec.manifest import RESTORED, Manifest, signed_content
from driftline.codec.seal import Signature
from driftline.core.error import InputFileError

KIND: Final = "driftline state"
FORMAT: Final = 1  # of the file; the states in it have a format of their own
LINE_BYTES_MAX: Final = 64 * 1024 * 1024  # of the first line; a shard takes a few kB of it
UNSEALED_BYTES_MAX: Final = 8 * 1024 * 1024  # of one that no key sealed: read, JSON is up to 30 times as large

_SEAL: Final = Signature(b"seal", b"driftline state\n")  # over the line's bytes: checked before they are parsed
_SIZE_MAX: Final = 2**53
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class StateFileError(InputFileError):
    """A state file that cannot be used here; the text says why, and what to do."""


class SavedShard(Struct, frozen=True):
    """The state of one shard in a state file.

    Args:
        manifest: what it is; its `journal_offset` and `slice_number` say up to where the journal was followed.
        summary: the shard's numbers for people, empty where its bytes were copied unread.
    """

    manifest: Manifest
    summary: dict[str, Any]

    @property
    def bytes(self) -> int:
        """How many it takes in the file."""
        return self.manifest.segment_bytes + self.manifest.size_bytes


class StateFile(Struct, frozen=True):
    """What a state file says of itself.

    Args:
        kind: distinguishes the file from others.
        format: version of the file's form.
        pipeline: name of the pipeline.
        partitions: of its journal, that is, shards; those that never worked have no state in the file.
        saved_ms: wall time, for people.
        shards: those that have a state, in the order of their bytes.
        signature: HMAC-SHA256 over all the above, empty where the deployment has no key.
    """

    kind: str
    format: int
    pipeline: str
    partitions: _Count
    saved_ms: int
    shards: list[SavedShard]
    signature: str = ""


def encode_line(file: StateFile, ring: KeyRing) -> bytes:
    """The first line, signed if there is a key.

    Raises:
        StateFileError: it would be longer than is read.
    """
    signed = structs.replace(file, signature=ring.sign(signed_content(file)))
    line = _SEAL.put(orjson.dumps(msgspec.to_builtins(signed)), "", ring) + b"\n"
    if len(line) > (LINE_BYTES_MAX if ring else UNSEALED_BYTES_MAX):
        raise StateFileError(
            f"the state file's first line, describing {len(file.shards)} shards, would have {len(line):,} bytes, "
            "which is "
            "too long. With DRIFTLINE_SNAPSHOT_KEY set, the limit is 64 MiB"
        )
    return line


def decode_line(line: bytes, ring: KeyRing) -> StateFile:
    """What a state file says of itself, if it may be believed.

    Raises:
        StateFileError: it is not a state file, or of another form, or not signed by a key of this deployment.
    """
    if len(line) > UNSEALED_BYTES_MAX and not _SEAL.verifies(line.rstrip(b"\n"), "", ring):
        raise StateFileError(
            f"the state file's first line is longer than {UNSEALED_BYTES_MAX // 2**20} MiB and not signed with a "
            "key of this deployment (DRIFTLINE_SNAPSHOT_KEY), so it is not read"
        )
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise StateFileError("this is not a state file; `driftline state save` writes them")
    if document.get("format") != FORMAT:
        raise StateFileError(
            f"the state file has format {document.get('format')!r:.20}, but this version reads {FORMAT}; save it "
            "again with "
            "this version of Driftline"
        )
    try:
        file = msgspec.convert(document, StateFile)
        content = signed_content(file)
    except NOT_OURS as error:
        raise StateFileError(
            f"the state file's first line cannot be read ({str(error)[:100]}); save it again"
        ) from error
    if ring and not ring.verifies(content, file.signature):
        raise StateFileError(
            "the state file is not signed with a key of this deployment (DRIFTLINE_SNAPSHOT_KEY); add the key of the "
            "deployment that saved it after your own"
        )
    partitions = [saved.manifest.partition for saved in file.shards]
    if not partitions or len({*partitions}) < len(partitions) or not all(map(_sound, file.shards)):
        raise StateFileError("the state file's first line describes impossible states: save it again")
    if max(partitions) >= file.partitions or min(partitions) < 0:
        raise StateFileError("the state file's first line describes impossible shards: save it again")
    return file


def _sound(saved: SavedShard) -> bool:
    manifest = saved.manifest
    return (
        manifest.slot == RESTORED
        and 0 <= manifest.index_bytes <= manifest.size_bytes <= _SIZE_MAX
        and 0 <= manifest.segment_bytes <= _SIZE_MAX
    )
