"""A page to send or print (a digest, a model card): one file that needs nothing else, not even a network.

What it looks like is in `sheet.html`. Everything that comes from topics or a pipeline file is escaped: names may hold
anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from driftline.core.wording import escaped, unlinked


class Section(Protocol):
    """What has a title, and a command that derives it again; the template of its kind shows the rest."""

    @property
    def title(self) -> str: ...
    @property
    def command(self) -> str: ...


def sheet(
    package: str, template: str, title: str, lead: str, sections: Sequence[Section], warnings: Sequence[str] = ()
) -> str:
    """The page of these sections.

    Args:
        package: where the template is.
        template: how the body of a section is written; it extends `sheet.html`.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("driftline.operate", "")]),
        autoescape=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["plain"], environment.filters["escaped"] = plain, escaped
    return environment.get_template(template).render(title=title, lead=lead, sections=sections, warnings=warnings)


def plain(text: str) -> str:
    """Text of others, which can neither end a line nor be an address that a program makes a link of."""
    return unlinked(escaped(text))
