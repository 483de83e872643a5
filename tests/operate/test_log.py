"""Log lines as JSON; and text of others in the log, which forges no line."""

from __future__ import annotations

import json
import logging
import logging.config
import sys

from driftline.operate.log import JsonFormatter, Record, guard, logging_config


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


HOSTILE = "an alert\r\n[2026-01-01] [ERROR] forged\x1b]0;owned\x07\u009b2J\u202e"


def test_text_of_others_begins_no_line_and_commands_no_terminal() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = Record("driftline", logging.WARNING, __file__, 1, "took %s", (HOSTILE,), info)
    first, *rest = logging.Formatter("%(message)s").format(record).splitlines()
    assert first == "took an alert\\u000d"
    assert rest[0] == "    [2026-01-01] [ERROR] forged\\u001b]0;owned\\u0007\\u009b2J\\u202e"
    assert rest[1] == "Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest[2:])
    assert all(character.isprintable() for line in (first, *rest) for character in line)


def test_the_worker_guards_its_log() -> None:
    before = logging.getLogRecordFactory()
    try:
        guard()
        record = logging.getLogger("driftline").makeRecord("driftline", logging.INFO, "", 1, "%s", (HOSTILE,), None)
        assert isinstance(record, Record)
    finally:
        logging.setLogRecordFactory(before)
