"""Log lines as JSON (`DRIFTLINE_LOG_FORMAT=json`): one object a line, for what collects logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any


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
