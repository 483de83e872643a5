"""How many bytes of an input are in hand: received, and not folded yet.

Records are counted too (`live.QUEUE_MAX`), but ten thousand of them may be a megabyte or ten gigabytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from driftline.core.record import Source

QUEUE_BYTES_MAX = 64 * 1024 * 1024  # of one input; beyond it the input is paused


class Hand:
    """The bytes of one input's records, as they come and are folded.

    Attributes:
        bytes: of values and keys that are in hand.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._batches: deque[tuple[int, int, int]] = deque()  # next offset, bytes, bytes of the largest record

    def came(self, sources: Sequence[Source]) -> None:
        """Records were received."""
        if not sources:
            return
        sizes = [len(source.value or b"") + len(source.key or b"") for source in sources]
        batch = sources[-1].offset + 1, sum(sizes), max(sizes)
        self._batches.append(batch)
        self.bytes += batch[1]

    def folded(self, position: int) -> None:
        """Records before this offset were folded."""
        batches = self._batches
        while batches and batches[0][0] <= position:
            self.bytes -= batches.popleft()[1]

    @property
    def largest(self) -> int:
        """Bytes of the largest record in hand."""
        return max((largest for _, _, largest in self._batches), default=0)
