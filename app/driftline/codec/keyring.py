"""The keys of a deployment: the first signs, all verify.

So keys rotate without a gap: `OLD,NEW` on every worker, then `NEW,OLD`, and `NEW` alone once nothing that is still read
was signed with the old one. A signature is an HMAC-SHA256, as hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from msgspec import Struct

SEPARATOR = ","
CHARACTERS_MIN = 16  # of each key


class KeyRing(Struct, frozen=True):
    """Keys by which a deployment knows its own: false without any.

    Args:
        keys: the one that signs first.
    """

    keys: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"KeyRing({len(self.keys)} keys)"

    def __bool__(self) -> bool:
        return bool(self.keys)

    @classmethod
    def of(cls, text: str) -> KeyRing:
        r"""The keys of a setting: separated by commas, where `\,` is a comma of the key itself.

        A text of several keys is a key too, the last: one that held a comma before there were several goes on to
        verify what it signed.

        Raises:
            ValueError: one is too short.
        """
        keys = [part.replace(f"\\{SEPARATOR}", SEPARATOR).strip() for part in re.split(rf"(?<!\\){SEPARATOR}", text)]
        if any(len(key) < CHARACTERS_MIN for key in keys):
            which = "must have" if len(keys) == 1 else "commas separate keys, and each key must have"
            escaped = "" if len(keys) == 1 else r"; write a comma within a key as \,"
            raise ValueError(f"{which} at least {CHARACTERS_MIN} characters{escaped}")
        whole = [text] if len(keys) > 1 else []
        return cls(tuple(key.encode() for key in (*keys, *whole)))

    def sign(self, content: bytes) -> str:
        """The signature with the first key; empty without keys."""
        return _hmac(self.keys[0], content) if self.keys else ""

    def verifies(self, content: bytes, signature: str) -> bool:
        """Whether one of the keys made a signature."""
        given = signature.encode()
        return any(hmac.compare_digest(given, _hmac(key, content).encode()) for key in self.keys)

    def signs(self, content: bytes, signature: str) -> bool:
        """Whether the key that signs now made a signature; without keys, whether there is none."""
        return hmac.compare_digest(signature.encode(), self.sign(content).encode())


NO_KEYS = KeyRing()


def _hmac(key: bytes, content: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()
