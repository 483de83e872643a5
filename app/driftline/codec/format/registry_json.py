"""JSON after the frame of a schema registry's serializer, or without one."""

from __future__ import annotations

from driftline.codec.format.base import Format
from driftline.codec.format.frame import framed_object

FORMAT = Format(read=framed_object, write=None)
