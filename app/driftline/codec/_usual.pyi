from collections.abc import Callable, Sequence

from driftline.codec.encode import Message, Terms
from driftline.core.output import Output

class Writer:
    def __init__(self, terms: Terms, encode: Callable[[Output], Message]) -> None: ...
    def encode_all(self, outputs: Sequence[Output]) -> list[Message]: ...

def framed(messages: list[Message]) -> tuple[bytes, int]: ...
