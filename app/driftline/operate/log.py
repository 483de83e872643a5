"""The log: lines as JSON (`DRIFTLINE_LOG_FORMAT=json`), one object a line, for what collects logs; and text of others
in it, which must neither forge lines nor command a terminal.

What collects logs reads stderr from a process's first line to its last, so with JSON the whole of stderr is JSON: also
what is written before Faust configures logging, Python's warnings, an error that no one caught, and the message that a
command ends with.
"""

from __future__ import annotations

import json
import logging
import logging.config
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from driftline.core.wording import escaped

log = logging.getLogger("driftline")


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
    """A record as `time` (ISO 8601, UTC), `level`, `logger`, `message`; where they apply also `pipeline`, `exit_code`
    (with the last line of a command that failed) and the traceback as `error`.

    Args:
        pipeline: whose worker this is, once that is known.
    """

    def __init__(self, pipeline: str | None = None) -> None:
        super().__init__()
        self._pipeline = pipeline

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._pipeline is not None:
            line["pipeline"] = self._pipeline
        if (code := getattr(record, "exit_code", None)) is not None:
            line["exit_code"] = code
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)  # not orjson: what others log may be no valid Unicode


def asks_for_json(environ: Mapping[str, str]) -> bool:
    """Whether the log is to be JSON, before the settings are read: an error in those is a line of it, too."""
    return environ.get("DRIFTLINE_LOG_FORMAT", "").strip().lower() == "json"


def as_json(text: str) -> str:
    """A line of the log that is none of `logging`'s: for a signal's handler, which may interrupt that."""
    return JsonFormatter().format(logging.LogRecord(log.name, logging.INFO, "", 0, text, (), None))


def write_json() -> None:
    """From now on all that this process writes to stderr is JSON, whoever writes it."""
    logging.config.dictConfig(logging_config("json", "INFO") or {})
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda found: _uncaught(found.exc_type, found.exc_value, found.exc_traceback)
    sys.unraisablehook = lambda found: _uncaught(found.exc_type, found.exc_value, found.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception_only(kind, error)).strip()
    log.critical("uncaught: %s", text, exc_info=(kind, error, trace) if error is not None else None)


def log_end(text: str, exit_code: int) -> None:
    """What a command ends with, as a line of the log."""
    log.error("%s", text, extra={"exit_code": exit_code})


def guard() -> None:
    """Make the records of this process such ones, whoever writes them out."""
    logging.setLogRecordFactory(Record)


def logging_config(log_format: str, level: str, pipeline: str | None = None) -> dict[str, Any] | None:
    """What Faust configures the log with; None leaves its own form for people.

    Args:
        log_format: `text` or `json`.
        level: the least that is logged.
        pipeline: named in each line.
    """
    if log_format == "text":
        return None
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter, "pipeline": pipeline}},
        "handlers": {"default": {"class": "logging.StreamHandler", "formatter": "json", "level": level}},
        "root": {"level": level, "handlers": ["default"]},
    }
