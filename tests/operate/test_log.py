"""Log lines as JSON."""

from __future__ import annotations

import json
import logging
import logging.config
import sys

from driftline.operate.log import JsonFormatter, logging_config


def line(text: str, *arguments: object, raised: BaseException | None = None) -> dict[str, str]:
    info = None if raised is None else (type(raised), raised, raised.__traceback__)
    record = logging.LogRecord("driftline", logging.WARNING, __file__, 1, text, arguments, info)
    written = JsonFormatter().format(record)
    assert "\n" not in written
    made: dict[str, str] = json.loads(written)
    return made


def test_a_record_is_one_object_on_one_line() -> None:
    found = line("shard %d:\n%s", 3, "recovered")
    assert found["time"].endswith("+00:00")
    assert {**found, "time": ""} == {
        "time": "", "level": "WARNING", "logger": "driftline", "message": "shard 3:\nrecovered"
    }  # fmt: skip


def test_a_traceback_is_a_field_of_it() -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        found = line("failed", raised=error)
    assert found["error"].startswith("Traceback")
    assert found["error"].endswith("ValueError: odd")


def test_text_that_is_no_unicode_is_written_all_the_same() -> None:
    assert "a" in line("a \udcff b")["message"]


def test_what_is_configured_is_the_form_that_was_asked_for() -> None:
    assert logging_config("text", "INFO") is None
    before, level = logging.root.handlers[:], logging.root.level
    try:
        logging.config.dictConfig(logging_config("json", "ERROR") or {})
        (handler,) = logging.root.handlers
        assert isinstance(handler.formatter, JsonFormatter)
        assert getattr(handler, "stream", None) is sys.stderr
        assert logging.root.level == logging.ERROR
    finally:
        logging.root.handlers[:], logging.root.level = before, level
