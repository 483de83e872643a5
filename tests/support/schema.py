"""Holds what is published against the schemas in `schemas/`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from driftline.codec.encode import Message

FOLDER = Path(__file__).resolve().parents[2] / "schemas"
NAMES = {"scores": "score", "outcomes": "outcome", "alerts": "alert", "rejected": "rejected", "review": "review"}


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of `schemas/<name>.schema.json`."""
    document = json.loads((FOLDER / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def faults(name: str, document: object) -> list[str]:
    """What is wrong with a document, most telling first; empty when it fits."""
    return [error.message for error in validator(name).iter_errors(document)]


def document_of(message: Message) -> Any:
    """What the schema of a topic speaks of: the value, or for rejected records our headers."""
    if message.kind == "rejected":
        return {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers}
    return orjson.loads(message.value or b"null")


def check(message: Message) -> None:
    """Assert that a published message fits the schema of its topic."""
    document = document_of(message)
    assert not faults(NAMES[message.kind], document), (message.kind, document)
