"""The log: lines as JSON (`DRIFTLINE_LOG_FORMAT=json`), one object a line, for what collects logs; and text of others
in it, which must neither forge lines nor command a terminal."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

from driftline.core.wording import escaped


class Record(logging.LogRecord):
    """A record without control characters, of which no line but the first begins at the margin."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info:
            self.exc_text = _indented("".join(traceback.format_exception(*self.exc_info)).rstrip())

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        return _indented(super().getMessage())


def _indented(text: str) -> str:
    return escaped(text, lines=True).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """A record as `time` (ISO 8601, UTC), `level`, `logger`, `message`, and the traceback, if any, as `error`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)  # not orjson: what others log may be no valid Unicode


def guard() -> None:
    """Make the records of this process such ones, whoever writes them out."""
    logging.setLogRecordFactory(Record)


def logging_config(log_format: str, level: str) -> dict[str, Any] | None:
    """What Faust configures the log with; None leaves its own form for people.

    Args:
        log_format: `text` or `json`.
        level: the least that is logged.
    """
    if log_format == "text":
        return None
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"default": {"class": "logging.StreamHandler", "formatter": "json", "level": level}},
        "root": {"level": level, "handlers": ["default"]},
    }
