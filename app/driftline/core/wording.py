"""Numbers in plain words, for someone who does not program."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share for reading: one digit after the point, two significant ones below 1%."""
    shown = 100 * share
    return f"{shown:.1f}%" if shown >= 1 or shown == 0 else f"{shown:.2g}%"
