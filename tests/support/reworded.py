"""An encoder that stands for a version with other fields and sentences."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from driftline.codec.encode import Encoder, Message
from driftline.core.output import Output


class Reworded(Encoder):
    """Writes the same records in other bytes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.encode_all = self.plainly  # what is compiled would write them as they are

    def encode(self, output: Output) -> Message:
        """One output, with a space behind it."""
        message = super().encode(output)
        return structs.replace(message, value=(message.value or b"") + b" ")
