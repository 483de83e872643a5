"""Model files to bytes: signed as snapshots are, and cut into the commands that carry them into the shards."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator

import msgspec
import orjson
from msgspec import structs

from driftline.codec.command import Sender, encode_command
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import signed_content
from driftline.core.error import InvariantError
from driftline.core.shard.upload import CHUNKS_MAX, PART_BYTES, SIZE_MAX
from driftline.core.state.model_file import MANIFEST_BYTES_MAX, Trained


def encode_model(manifest: Trained, frozen: bytes, ring: KeyRing) -> bytes:
    """A model file's bytes, signed if there is a key.

    Args:
        manifest: its size and digest are set here.
        frozen: the model's bytes, of `core.state.freeze.dump_model`.
    """
    manifest = structs.replace(
        manifest, size_bytes=len(frozen), sha256=hashlib.sha256(frozen).hexdigest(), signature=""
    )
    manifest = structs.replace(manifest, signature=ring.sign(signed_content(manifest)))
    return orjson.dumps(msgspec.to_builtins(manifest)) + b"\n" + frozen


def refusal(content: bytes, ring: KeyRing) -> str | None:
    """Why a model file's signature does not hold, or None.

    Args:
        content: of a file that `core.state.model_file.parse` could read.
        ring: of the deployment.
    """
    try:
        manifest = msgspec.convert(orjson.loads(content[: content.find(b"\n", 0, MANIFEST_BYTES_MAX)]), Trained)
        signed = signed_content(manifest)
    except (orjson.JSONDecodeError, msgspec.ValidationError, TypeError):
        return "the model file's manifest cannot be read; train it again"
    if ring.verifies(signed, manifest.signature):
        return None
    return "the model file is not signed with a key of this deployment; train it where DRIFTLINE_SNAPSHOT_KEY is set"


def parts(
    content: bytes, load: str, part_bytes: int = PART_BYTES, *, sender: Sender | None = None, ring: KeyRing = NO_KEYS
) -> Iterator[bytes]:
    """The commands that carry a model file into a shard, in order.

    Args:
        load: its name, see `core.record.Chunk`.
        sender: who sends it, when the load was begun; None leaves the parts without one, and unsigned.
    """
    count = -(-len(content) // part_bytes)
    if not 0 < len(content) <= SIZE_MAX or count > CHUNKS_MAX:
        raise InvariantError(f"a model file of {len(content)} bytes cannot be loaded in {count} parts")
    sha256 = hashlib.sha256(content).hexdigest()
    for number in range(count):
        part = content[number * part_bytes : (number + 1) * part_bytes]
        command = {
            "command": "load",
            "load": load,
            "part": number,
            "parts": count,
            "size_bytes": len(content),
            "sha256": sha256,
            "content": b64encode(part).decode(),
        }
        yield orjson.dumps(command) if sender is None else encode_command(command, sender, ring)
