"""What a ledger keeps of each event's state, in a byte. The numbers are in snapshots."""

from __future__ import annotations

from typing import Final, TypeAlias

Fate: TypeAlias = int
GONE: Final = 0  # not known any more
WAITING: Final = 1
LABELLED: Final = 2
ASSUMED: Final = 3  # the deadline passed, and the label that the pipeline assumes was learned
EXPIRED: Final = 4  # the deadline passed, or no room was left
RETRACTED: Final = 5  # it had a label, which was taken back
