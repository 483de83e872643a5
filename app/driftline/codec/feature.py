"""What stands at a feature's path as the value that the model sees, by the feature's declared type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from driftline.codec.declared import EXACT_MAX
from driftline.codec.document import MISSING
from driftline.codec.format import format_of
from driftline.codec.json import NotFinite
from driftline.codec.reason import RefusedError
from driftline.core.notation import ENVELOPE, HEADERS, KEY, Path, parse_path
from driftline.core.number import Decimal, is_missing, parse_number
from driftline.core.pipeline import Feature, LabelForm, Limits
from driftline.core.pipeline.input import InputForm
from driftline.core.pipeline.target import shown
from driftline.core.slate import SlateError, items_text, shown_text
from driftline.core.task.label import LabelKind

Check: TypeAlias = Callable[[str, object], Any]
"""From a feature's name and what stands at its path to its value; to `MISSING` where that means that none is there."""

CHARS_MAX = 10_000
"""Where a text is cut, unless the pipeline says otherwise; in characters."""

_WORDS = {"true": True, "false": False}


class Checks:
    """Reads features within a pipeline's limits.

    Args:
        candidates_max: items of a request.
    """

    def __init__(self, limits: Limits, candidates_max: int = 0) -> None:
        self._candidates_max = candidates_max
        self._string_max = limits.string_max
        self._number_max = limits.number_max

    def of(self, feature: Feature, form: InputForm) -> Check:
        """How this feature is read."""
        untyped = _is_untyped(feature.keys, form)
        match feature.type:
            case "string":
                return self._string
            case "text":
                most = feature.chars_max or CHARS_MAX
                return lambda name, value: self._text(name, value, most)
            case "key":
                return self._key
            case "boolean":
                return self._boolean_text if untyped else self._boolean
            case "items":
                return self._items
            case "slate":
                return self._slate
            case "number" if feature.text or untyped:
                decimal = _decimal(feature.text)
                return lambda name, value: self._number_text(name, value, decimal)
        return self._number

    def _number(self, name: str, value: object) -> Any:
        if type(value) is not float and type(value) is not int:
            if type(value) is NotFinite or _is_blank(value):
                return MISSING
            raise RefusedError("feature_type", f"{name} must be a number, not {shown(value)}{_remedy(value)}")
        if not -self._number_max <= value <= self._number_max:
            raise RefusedError("number_too_large", f"{name} is {value!r} (limit: {self._number_max:g})")
        return value

    def _number_text(self, name: str, value: object, decimal: Decimal) -> Any:
        if type(value) is not str:
            return self._number(name, value)
        if means_nothing(value):
            return MISSING
        number = parse_number(value, decimal, thousands=True)
        if number is None:
            sign = "point" if decimal == "." else "comma"
            raise RefusedError("feature_type", f"{name} is {shown(value)}, which is not a number with a decimal {sign}")
        return self._number(name, number)

    def _string(self, name: str, value: object) -> Any:
        if type(value) is not str:
            if type(value) is NotFinite:
                return MISSING
            raise RefusedError("feature_type", f"{name} must be a string, not {shown(value)}")
        if len(value) > self._string_max:
            detail = f"{name} has {len(value)} characters (limit: {self._string_max})"
            raise RefusedError("string_too_long", detail)
        return value

    def _text(self, name: str, value: object, most: int) -> Any:
        if type(value) is not str and type(value) is not NotFinite:
            raise RefusedError("feature_type", f"{name} must be a string, not {shown(value)}")
        return value[:most] if isinstance(value, str) else MISSING

    def _key(self, name: str, value: object) -> Any:
        """An id: text, or a number that is exact; empty text is none."""
        if type(value) is str:
            return self._string(name, value) if value else MISSING
        if type(value) is int or type(value) is bool:
            return value
        if type(value) is float and abs(value) <= EXACT_MAX:
            return value
        if type(value) is NotFinite:
            return MISSING
        raise RefusedError("feature_type", f"{name} must be a string or an exact number, not {shown(value)}")

    def _items(self, name: str, value: object) -> Any:
        try:
            return items_text(value, self._string_max, self._number_max, self._candidates_max)
        except SlateError as error:
            raise RefusedError("feature_type", f"{name} {error}") from None

    def _slate(self, name: str, value: object) -> Any:
        try:
            return shown_text(value, self._string_max, self._candidates_max)
        except SlateError as error:
            raise RefusedError("feature_type", f"{name} {error}") from None

    def _boolean(self, name: str, value: object) -> Any:
        if type(value) is not bool:
            if type(value) is NotFinite or _is_blank(value):
                return MISSING
            raise RefusedError("feature_type", f"{name} must be true or false, not {shown(value)}")
        return value

    def _boolean_text(self, name: str, value: object) -> Any:
        return self._boolean(name, _WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value)


def means_nothing(text: str) -> bool:
    """Whether a text where a number should be says that there is none; an infinite one is none either."""
    return is_missing(text) or text.strip().lower().lstrip("+-") in ("inf", "infinity")


def is_number_text(value: object) -> bool:
    """Whether it is text that would be a number, with a decimal point or a comma."""
    return isinstance(value, str) and any(parse_number(value, sign, thousands=True) is not None for sign in (".", ","))


def from_text(form: LabelForm, labels: LabelKind) -> Callable[[str], Any] | None:
    """How the text of a label becomes the number, true or false that it is meant to be; None where it stays text.

    Any other text stays as it is, for `Target` to refuse.
    """
    if labels.textual or isinstance(form.positive, str):
        return None
    if not form.text and not _is_untyped(parse_path(form.value), form):
        return None
    decimal, words = _decimal(form.text), {} if labels.numeric else _WORDS

    def read(text: str) -> Any:
        if means_nothing(text):
            raise RefusedError("label_missing", f"the label is {text[:20]!r}")
        found = words.get(text.strip().lower())
        number = parse_number(text, decimal, thousands=True) if found is None else found
        return text if number is None else number

    return read


def _is_untyped(path: Path, form: InputForm) -> bool:
    """Whether what stands at a path is text whatever it means: a header, a key as text, a CloudEvent's attribute."""
    if path[0] == ENVELOPE:
        return format_of(form.envelope).textual
    return path[0] == HEADERS or (path == (KEY,) and form.key == "text")


def _decimal(text: str | bool) -> Decimal:
    return "," if text == "comma" else "."


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _remedy(value: object) -> str:
    """What to declare for a number that came as text."""
    if not isinstance(value, str):
        return ""
    if parse_number(value, thousands=True) is not None:
        return "; to read numbers written as strings, declare {type: number, text: true}"
    if parse_number(value, ",", thousands=True) is not None:
        return "; to read numbers written as strings with a decimal comma, declare {type: number, text: comma}"
    return "; to read words like it as missing, declare {type: number, text: true}" if means_nothing(value) else ""
