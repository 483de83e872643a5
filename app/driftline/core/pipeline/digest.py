"""Digests on a schedule, as a pipeline file declares them: for whom, how often, and to which webhook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from driftline.core.error import Problem
from driftline.core.notation import Duration
from driftline.core.pipeline.feature import Form

DIGESTS_MAX: Final = 20
WEEK_MS: Final = 7 * 86_400_000
MONDAY_MS: Final = 4 * 86_400_000  # 1970-01-05


class DigestForm(Form):
    """A digest of each period, sent when it is over."""

    every_ms: Annotated[Duration, Field(ge=3_600_000)] = Field(
        default=WEEK_MS,
        alias="every",
        description="length of a period of event time, at least 1h; whole weeks begin on Mondays, others at midnight "
        "(UTC) or with the whole span since 1970",
    )
    to: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$")] = Field(
        description="name of the webhook that gets it, in the file of --notify: form slack or json"
    )
    role: Literal["operator", "data_engineer", "data_scientist", "domain_expert"] | None = Field(
        default=None, description="for whom [default: everything]"
    )

    def ended_ms(self, now_ms: int) -> int:
        """The end of the last period that is over at a time."""
        shift_ms = MONDAY_MS if self.every_ms % WEEK_MS == 0 else 0
        return (now_ms - shift_ms) // self.every_ms * self.every_ms + shift_ms


def check_digests(draft: Mapping[str, Any], _: Any = None) -> Iterator[Problem]:
    """Every fault of the schedules."""
    digests: Mapping[str, DigestForm] = draft.get("digests") or {}
    if len(digests) > DIGESTS_MAX:
        yield Problem("digests", len(digests), f"has too many digests; at most {DIGESTS_MAX}")
    for name in digests:
        if not name.isascii() or not name.replace("-", "_").isidentifier() or len(name) > 50:
            yield Problem("digests", name[:60], "a digest's name has 1 to 50 letters, digits, '_' and '-'")
