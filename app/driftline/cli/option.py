"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from driftline.core.duration import parse_duration
from driftline.core.timestamp import FORMS, TimeForm, parse_time, time_form

if TYPE_CHECKING:
    from driftline.core.number import Decimal

Command = TypeVar("Command", bound=Callable[..., Any])


class DurationType(click.ParamType):
    """A duration: `500ms 30s 15m 12h 7d`, or 0. A number without a unit could be days as well as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is not a duration: {error}", param, ctx)


class MomentType(click.ParamType):
    """A time, as `core.timestamp.parse_time` reads it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        try:
            return parse_time(text)
        except ValueError as error:
            self.fail(f"{error}; write ISO 8601, or epoch seconds or milliseconds", param, ctx)


class TimeFormType(click.ParamType):
    """How a column writes its times; see `core.timestamp.time_form`."""

    name = "form"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TimeForm:
        if isinstance(value, TimeForm):
            return value
        try:
            return time_form(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()
MOMENT = MomentType()


def together(name: str, form: type[Any]) -> Callable[[Command], Callable[..., Any]]:
    """Hands options that belong together to a command as one argument: those that a dataclass has as fields.

    Args:
        name: of the argument.
        form: the dataclass.
    """

    names = [field.name for field in fields(form)]

    def gather(command: Command) -> Callable[..., Any]:
        @wraps(command)
        def gathered(*context: Any, **given: Any) -> Any:
            whole = form(**{option: given.pop(option) for option in names})
            return command(*context, **{name: whole}, **given)

        vars(gathered)["together"] = {**vars(command).get("together", {}), name: names}
        return gathered

    return gather


def label_delay_option(text: str) -> Callable[[Command], Command]:
    """`--label-delay`.

    Args:
        text: the help.
    """
    return click.option("--label-delay", "label_delay_ms", type=DURATION, default=0, metavar="DURATION", help=text)


def form_options(command: Command) -> Command:
    """`--decimal` and `--time-format`: how a file writes numbers and times, where it does not show."""
    command = click.option(
        "--time-format",
        "time_form",
        type=TimeFormType(),
        metavar="FORM",
        help=f"Time format: {', '.join(FORMS)}, or a pattern such as %d/%m/%Y %H:%M [default: inferred from the data].",
    )(command)
    return click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        help="Decimal separator of a CSV file; the other one separates thousands [default: inferred from the data].",
    )(command)


@dataclass(frozen=True)
class Rows:
    """A file of rows and its fields; see `row_options`."""

    path: Path
    label: str | None
    event_id: str | None
    time_field: str | None
    decimal: Decimal | None
    time_form: TimeForm | None


def row_options(label: str, event_id: str, time_field: str) -> Callable[[Command], Callable[..., Any]]:
    """`--input`, a file of rows; `--label`, `--id` and `--time`, its fields; and `form_options`: as `rows: Rows`.

    Args:
        label, event_id, time_field: the help of each field.
    """

    def add(command: Command) -> Callable[..., Any]:
        gathered = form_options(together("rows", Rows)(command))
        gathered = click.option("--time", "time_field", metavar="FIELD", help=time_field)(gathered)
        gathered = click.option("--id", "event_id", metavar="FIELD", help=event_id)(gathered)
        gathered = click.option("--label", metavar="FIELD", help=label)(gathered)
        return click.option(
            "--input",
            "path",
            type=click.Path(path_type=Path),
            required=True,
            metavar="FILE",
            help="CSV with a header, or JSON lines; may be gzipped (.gz).",
        )(gathered)

    return add


def kind_option(text: str) -> Callable[[Command], Command]:
    """`--kind`: which broker to start.

    Args:
        text: the help.
    """
    kinds = click.Choice(["embedded", "kafka"])
    return click.option("--kind", type=kinds, default="embedded", show_default=True, help=text)


def pipeline_option(command: Command, **attributes: Any) -> Command:
    """`-p FILE` and `--set key=value`.

    Args:
        attributes: more of the options, as click has them.
    """
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value of the pipeline file, as in params.lr=0.1; repeatable.",
        **attributes,
    )(command)
    return click.option(
        "-p",
        "--pipeline",
        "pipeline_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The pipeline file (or DRIFTLINE_PIPELINE).",
        **attributes,
    )(command)


def bootstrap_option(command: Command, **attributes: Any) -> Command:
    """`--bootstrap HOST:PORT`; more attributes as click has them."""
    text = "Kafka's address (or DRIFTLINE_BOOTSTRAP; 127.0.0.1:9092)."
    return click.option("--bootstrap", metavar="HOST:PORT", help=text, **attributes)(command)


def json_option(command: Command, **attributes: Any) -> Command:
    """`--json`: the result as JSON, printed by `cli.echo.show`.

    Args:
        attributes: more of the option, as click has them.
    """
    text = "Print JSON (schemas/command.schema.json)."
    return click.option("--json", "as_json", is_flag=True, help=text, **attributes)(command)
