"""Record formats: each name has its file, whole, and nothing outside the package knows a format by its name."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import orjson
import pytest

from driftline.codec.decode import Decoder
from driftline.codec.format import format_of, hint_of
from driftline.codec.wire import Wire
from driftline.core.format import FORMATS, FormatName
from driftline.core.notation import ENVELOPE
from driftline.core.record import Event, Source
from tests.support.small import NOW_MS, small

APP = Path(__file__).resolve().parents[2] / "app" / "driftline"
HOME = APP / "codec" / "format"
NAMES: tuple[FormatName, ...] = get_args(FormatName)
OWN = [name for name in NAMES if name != "none"]  # other files use that word too


def test_every_name_has_an_outline() -> None:
    assert tuple(FORMATS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_read_as_the_format_writes_it(name: FormatName) -> None:
    form = small(event={"envelope": name, "features": {"x": "number"}}, model="LogisticRegression()")
    key, value, headers = Wire(form.event).write({"id": 7, "x": 2.5}, 7, NOW_MS)
    made = Decoder(form).event(Source("p.events", 0, 0, NOW_MS, key, value, headers))
    assert isinstance(made, Event)
    assert (made.event_id, made.features) == (7, (2.5,))


@pytest.mark.parametrize("name", NAMES)
def test_an_envelope_is_there_for_paths_where_the_outline_says_so(name: FormatName) -> None:
    found = format_of(name)
    value = orjson.dumps({"x": 1}) if found.write is None else found.write({"x": 1}, {}, 7, NOW_MS)
    document = found.read(value, ())
    assert document["x"] == 1
    assert (ENVELOPE in document) == FORMATS[name].envelope


@pytest.mark.parametrize("name", [name for name in NAMES if FORMATS[name].envelope])
def test_a_value_in_an_envelope_names_it_where_none_is_declared(name: FormatName) -> None:
    write = format_of(name).write
    assert write is not None
    assert hint_of(orjson.loads(write({"x": 1}, {}, 7, NOW_MS))).endswith(f"declare `envelope: {name}`")


def test_no_other_module_names_a_format() -> None:
    found = {}
    for path in sorted(APP.rglob("*.py")):
        if HOME in path.parents or path == APP / "core" / "format.py":
            continue
        constants = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        if names := [f"line {one.lineno}: {one.value!r}" for one in constants if one.value in OWN]:
            found[str(path.relative_to(APP))] = names
    assert found == {}
