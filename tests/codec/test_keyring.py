"""Keys: the first signs, all verify, and a setting of one key means what it always did."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from driftline.codec.keyring import NO_KEYS, KeyRing

OLD, NEW = "the key of last year", "the key of this year"


def test_a_signature_is_an_hmac_with_the_first_key() -> None:
    assert KeyRing.of(OLD).sign(b"x") == hmac.new(OLD.encode(), b"x", hashlib.sha256).hexdigest()
    assert KeyRing.of(f"{NEW},{OLD}").sign(b"x") == KeyRing.of(NEW).sign(b"x")


def test_every_key_verifies_and_only_the_first_signs() -> None:
    both = KeyRing.of(f"{NEW}, {OLD}")
    before = KeyRing.of(OLD).sign(b"x")
    assert both.verifies(b"x", before)
    assert not both.signs(b"x", before)
    assert both.signs(b"x", both.sign(b"x"))
    assert not KeyRing.of(NEW).verifies(b"x", before)
    assert not both.verifies(b"y", before)


def test_without_keys_nothing_is_signed_and_nothing_verifies() -> None:
    assert not NO_KEYS
    assert NO_KEYS.sign(b"x") == ""
    assert not NO_KEYS.verifies(b"x", "")
    assert NO_KEYS.signs(b"x", "")
    assert not NO_KEYS.signs(b"x", KeyRing.of(OLD).sign(b"x"))


@pytest.mark.parametrize("signature", ["", "é", "0" * 64])
def test_what_is_no_signature_does_not_verify(signature: str) -> None:
    assert not KeyRing.of(OLD).verifies(b"x", signature)


def test_a_comma_of_a_key() -> None:
    """A key that held one before several could be given still verifies; escaped, it signs."""
    one = f"{OLD},{NEW}"
    before = KeyRing((one.encode(),)).sign(b"x")
    assert KeyRing.of(one).verifies(b"x", before)
    assert KeyRing.of(one.replace(",", r"\,")).sign(b"x") == before


@pytest.mark.parametrize("text", ["short", f"{OLD},", f",{OLD}", f"{OLD},short"])
def test_every_key_has_a_length(text: str) -> None:
    with pytest.raises(ValueError, match="at least 16 characters"):
        KeyRing.of(text)


def test_keys_are_not_shown() -> None:
    assert OLD not in repr(KeyRing.of(OLD))
