"""Which partition the usual producers give a key, and how to infer from the keys alone which of them was used.

A shard knows its own partition and not how many there are. But if a producer puts a key into partition
`hash(key) mod n`, then n divides `hash(key) - partition` of every key that is found there: the greatest common divisor
of a few dozen of them is n, and 1 for a hash that had no part in it.

Sources: Java's `BuiltInPartitioner` and aiokafka (murmur2); librdkafka's `rdkafka_partition.c` (its default,
`consistent_random`, is CRC32); Sarama's `NewHashPartitioner` (FNV-1a).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import gcd
from typing import Final
from zlib import crc32

KEYS_MIN: Final = 16  # fewer distinct keys than that may agree by chance
COUNT_MAX: Final = 100_000  # more partitions than any topic has

_WORD = 0xFFFF_FFFF


def murmur2(key: bytes) -> int:
    """The hash of Java's default partitioner, its sign bit off. Cost: 2 us a key of 36 bytes."""
    m, length = 0x5BD1_E995, len(key)
    value = 0x9747_B28C ^ length
    whole = length & ~3
    for place in range(0, whole, 4):
        k = int.from_bytes(key[place : place + 4], "little") * m & _WORD
        k = (k ^ k >> 24) * m & _WORD
        value = (value * m & _WORD) ^ k
    if rest := key[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * m & _WORD
    value = (value ^ value >> 13) * m & _WORD
    return (value ^ value >> 15) & 0x7FFF_FFFF


def fnv1a(key: bytes) -> int:
    """The hash of Sarama's default partitioner: FNV-1a of 32 bits, as a signed number without its sign."""
    value = 0x811C_9DC5
    for byte in key:
        value = (value ^ byte) * 0x0100_0193 & _WORD
    return value if value < 0x8000_0000 else 0x1_0000_0000 - value


PARTITIONERS: Final[dict[str, tuple[Callable[[bytes], int], str]]] = {
    "murmur2": (murmur2, "murmur2, the default of Java's clients, aiokafka and Driftline"),
    "crc32": (crc32, "CRC32, the default of librdkafka, so of confluent-kafka"),
    "fnv1a": (fnv1a, "FNV-1a, the default of Sarama"),
}


def partitioner_of(keys: Collection[bytes], partition: int) -> tuple[str, int] | None:
    """The partitioner that put all of these keys here, and of how many partitions; None where none of them did.

    Args:
        keys: distinct ones, all found in this partition.

    One key in a partition of `n` would be there under another hash with a chance of 1 to n, so `KEYS_MIN` of them
    agree by chance once in 2 ** 16 at two partitions.
    """
    if len(keys) < KEYS_MIN:
        return None
    for name, (hashed, _) in PARTITIONERS.items():
        count = gcd(*(hashed(key) - partition for key in keys))
        if max(partition, 1) < count <= COUNT_MAX:
            return name, count
    return None


def places(name: str, count: int, key: bytes) -> int:
    """The partition of a key."""
    return PARTITIONERS[name][0](key) % count
