"""Compressed batches, unpacked within bounds.

A broker looks at a compressed batch as a stream and keeps it as it came: 130 kB may hold a gigabyte, and Java passes
over what stands behind a gzip stream, which Python does not. aiokafka unpacks a batch whole and fails at what it cannot
read, at each try and after each restart. So batches are unpacked here: one that holds more than `UNPACKED_MAX`, or that
cannot be unpacked, is skipped with an error in the log, as if its offsets held nothing. That depends on its bytes
alone, so a replay skips the same ones.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cramjam
from aiokafka import codec as codecs

UNPACKED_MAX = 128 * 1024 * 1024  # of a batch; a producer fills one with a megabyte or a few
_LIKELY = 16  # times the bytes of a batch, for which there is room at the first try
_ROOM_MIN = 64 * 1024

LENGTH_AT, LENGTH_FROM = 8, 12  # in a batch: its length, and from where on that counts
MAGIC_AT = 16  # the byte that names its format
_HEADER_BYTES = 61  # of format 2, in front of its records
_ATTRIBUTES_AT = 21
_CODEC = 0x07
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_GZIP_BEGIN = b"\x1f\x8b"


class PackedError(Exception):
    """A batch that cannot be unpacked, or that holds too much; the text says which."""


def codec_of(batch: bytes | memoryview) -> int:
    """How a batch is compressed; 0 where it is not."""
    return batch[_ATTRIBUTES_AT + 1 if batch[MAGIC_AT] >= 2 else MAGIC_AT + 1] & _CODEC


def checked(batch: bytes) -> bytes:
    """A compressed batch of format 2 without its compression (its checksum stays that of before); an older one as it
    is.

    Raises:
        PackedError: it cannot be unpacked within `UNPACKED_MAX`.
    """
    codec = codec_of(batch)
    if batch[MAGIC_AT] < 2:
        unpacked(_value_of(batch), codec)
        return batch
    made = bytearray(batch[:_HEADER_BYTES])
    made += unpacked(batch[_HEADER_BYTES:], codec)
    made[_ATTRIBUTES_AT + 1] &= ~_CODEC & 0xFF
    struct.pack_into(">i", made, LENGTH_AT, len(made) - LENGTH_FROM)
    return bytes(made)


def _value_of(message: bytes) -> bytes:
    """The value of a message of format 0 or 1: what was compressed."""
    at = MAGIC_AT + (2 if message[MAGIC_AT] == 0 else 10)  # format 1 has a time
    at += 4 + max(struct.unpack_from(">i", message, at)[0], 0)  # behind the key
    return message[at + 4 :]


def unpacked(content: bytes, codec: int) -> bytes:
    """What was compressed.

    Raises:
        PackedError: it cannot be unpacked, or is more than `UNPACKED_MAX`.
    """
    unpack = _UNPACK.get(codec)
    if unpack is None:
        raise PackedError(f"its compression, {codec}, is not known")
    try:
        return unpack(content)
    except _ERRORS as error:
        raise PackedError(f"it cannot be unpacked ({str(error)[:100]!r})") from error


_ERRORS = (cramjam.DecompressionError, OSError, EOFError, OverflowError, ValueError, struct.error, zlib.error)


def _gzip(content: bytes) -> bytes:
    """As Java reads it: members behind one another, and whatever follows them passed over."""
    pieces: list[bytes] = []
    size = 0
    while content.startswith(_GZIP_BEGIN) or not pieces:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            pieces.append(member.decompress(content, UNPACKED_MAX - size + 1))
        except zlib.error:
            if not pieces:
                raise
            break
        size += len(pieces[-1])
        if size > UNPACKED_MAX:
            raise PackedError(_TOO_MUCH)
        if not member.eof:
            raise PackedError("it is cut off")
        content = member.unused_data
    return b"".join(pieces)


def _snappy(content: bytes) -> bytes:
    found: bytes = codecs.snappy_decode(content)  # by its nature at most some 20 times as long
    if len(found) > UNPACKED_MAX:
        raise PackedError(_TOO_MUCH)
    return found


def _bounded(into: Callable[[bytes, bytearray], int]) -> Callable[[bytes], bytes]:
    """A function that unpacks into memory of a given size, with memory that is most likely enough, or as much as may
    be."""

    def unpack(content: bytes) -> bytes:
        likely = min(_LIKELY * len(content) + _ROOM_MIN, UNPACKED_MAX)
        try:
            room = bytearray(likely)
            return bytes(memoryview(room)[: into(content, room)])
        except cramjam.DecompressionError:
            room = bytearray(UNPACKED_MAX)
        try:
            return bytes(memoryview(room)[: into(content, room)])
        except cramjam.DecompressionError as error:
            raise PackedError(f"{_TOO_MUCH}, or cannot be unpacked ({str(error)[:100]!r})") from error

    return unpack


_TOO_MUCH = f"it holds more than {UNPACKED_MAX // 1024**2} MiB"


_UNPACK: dict[int, Callable[[bytes], bytes]] = {
    _GZIP: _gzip,
    _SNAPPY: _snappy,
    _LZ4: _bounded(cramjam.lz4.decompress_into),
    _ZSTD: _bounded(cramjam.zstd.decompress_into),
}
