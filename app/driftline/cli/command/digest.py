"""`driftline digest`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import DURATION, MOMENT, bootstrap_option, json_option, pipeline_option

ROLES = ("operator", "data_engineer", "data_scientist", "domain_expert")
FORMATS = ("markdown", "html", "slack", "text", "email")


@click.command()
@pipeline_option
@bootstrap_option
@click.option(
    "--since",
    "span_ms",
    type=DURATION,
    default="7d",
    show_default=True,
    metavar="DURATION",
    help="How far back from --until, in event time.",
)
@click.option(
    "--until", "until_ms", type=MOMENT, metavar="TIME", help="End of the span [default: after the last event]."
)
@click.option("--role", type=click.Choice(ROLES), help="Only what concerns this role [default: everything].")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="markdown", show_default=True, help="Output format."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Output file [default: print it].",
)
@json_option
@does("driftline.cli.digest:digest")
def digest() -> None:
    """Summarize a span of event time: what was served and learned, KPIs, changes, actions, open decisions.

    Made from the topics alone: the same topics and span give the same bytes. Reads only; joins no consumer group.
    """
