from collections.abc import Callable
from typing import Any

from driftline.codec.declared import Declared
from driftline.core.record import InputRecord, Source

class Reader:
    def __init__(
        self,
        declared: Declared,
        other: Callable[[Source], InputRecord],
        arrange: Callable[[Any], tuple[Any, Any]] | None = None,
        target: Callable[[Any], Any] | None = None,
        from_text: bool = False,
    ) -> None: ...
    def event(self, source: Source) -> InputRecord: ...
    def label(self, source: Source) -> InputRecord: ...
