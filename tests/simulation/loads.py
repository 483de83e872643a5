"""Models that operators load while everything else goes wrong, and what must come of them.

A sender may die halfway, two may write at once, a file may be of another pipeline, unsigned where a signature is asked
for, or changed on its way. `Ledger` derives from the commands alone, in a way of its own, which of them are to be
rejected and how often the model is to change.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from random import Random
from typing import Any, Literal, TypeAlias

import msgspec
import orjson

from driftline.codec.command import Sender, encode_command
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.parts import parts
from driftline.core.pipeline import parse_pipeline
from tests.support.trained import model_file

KEY = KeyRing((b"the deployment's own",))
FOREIGN = KeyRing((b"another deployment's",))

Kind: TypeAlias = Literal["whole", "halfway", "other pipeline", "other key", "changed"]
KINDS: tuple[Kind, ...] = ("whole", "whole", "whole", "halfway", "other pipeline", "other key", "changed")


@lru_cache(maxsize=256)
def _file(document: bytes, count: int, key: KeyRing) -> bytes:
    return model_file(parse_pipeline(orjson.loads(document)), count, key=key)


def commands(rng: Random, document: dict[str, Any], kind: Kind, begun_ms: int, *, signed: bool) -> list[str]:
    """The parts of one load."""
    key = KEY if signed else NO_KEYS
    if kind == "other pipeline":
        document = {**document, "seed": 7}
    elif kind == "other key":
        key = FOREIGN
    content = _file(orjson.dumps(document), rng.choice((5, 40)), key)
    name = f"{begun_ms:013d}-{rng.randrange(16**8):08x}"
    cut = [value.decode() for value in parts(content, name, rng.choice((400, 1_000, 2_000)))]
    if kind == "halfway":
        return cut[: rng.randrange(1, len(cut))]
    if kind == "changed":
        number = rng.randrange(len(cut))
        part = msgspec.json.decode(cut[number])
        part["content"] = part["content"].swapcase()
        cut[number] = orjson.dumps(part).decode()
    if rng.random() < 0.2:  # a sender repeats what it had no answer to
        number = rng.randrange(len(cut))
        cut.insert(number, cut[number])
    return cut


class Ledger:
    """What is to come of the commands of one shard, in their order.

    Args:
        unfit: sums of whole files that no shard may take.
    """

    def __init__(self, unfit: frozenset[str], *, signed: bool) -> None:
        self._signed = signed
        self._taken: set[str] = set()
        self.changes = 0
        self.rejected = 0
        self._unfit = unfit
        self._newest = ""
        self._there: dict[int, str] | None = {}  # None: it is over

    def take(self, command: dict[str, Any]) -> None:
        if command.get("command") == "reset":
            self._newest, self._there = "", None
        if command.get("command") != "load":
            return
        name, number = command["load"], command["part"]
        if self._signed and name in self._taken and name != self._newest:  # it is over, and known
            self.rejected += 1
            return
        self._taken.add(name)
        if name > self._newest:
            self._newest, self._there = name, {}
        there, content = self._there, command["content"]
        if name < self._newest or there is None or there.get(number, content) != content:
            self.rejected += 1
            return
        there[number] = command["content"]
        if len(there) == command["parts"]:
            good = _whole(there, command) and command["sha256"] not in self._unfit
            self.changes += good
            self.rejected += not good
            self._there = None


def signed_command(value: str, stamp_ms: int, pipeline: str, at_s: float) -> str:
    """A command as `driftline control` would have sent it; what is no command stays as it is.

    Args:
        at_s: tells two commands of one millisecond apart, as a nonce does.
    """
    try:
        command = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value
    load = str(command.get("load", ""))
    sent_ms = int(load[:13]) if load else stamp_ms
    nonce = hashlib.md5((load or f"{at_s} {value}").encode(), usedforsecurity=False).hexdigest()
    return encode_command(command, Sender(pipeline, "an operator", sent_ms, nonce), KEY).decode()


def _whole(there: dict[int, str], command: dict[str, Any]) -> bool:
    content = b"".join(base64.b64decode(there[number]) for number in sorted(there))
    return hashlib.sha256(content).hexdigest() == str(command["sha256"])


def unfit(document: dict[str, Any], *, signed: bool) -> frozenset[str]:
    """Sums of the files of `commands` that are to be refused."""
    found: list[bytes] = []
    for count in (5, 40):
        found.append(_file(orjson.dumps({**document, "seed": 7}), count, KEY if signed else NO_KEYS))
        if signed:
            found.append(_file(orjson.dumps(document), count, FOREIGN))
    return frozenset(hashlib.sha256(content).hexdigest() for content in found)
