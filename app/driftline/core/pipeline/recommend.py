"""The `recommend` section of a pipeline file: which items a request chooses from, and by which policy."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from driftline.core.notation import ScalarValue
from driftline.core.pipeline.feature import Form

PolicyName: TypeAlias = Literal["epsilon_greedy", "linucb", "thompson", "softmax", "popularity", "uniform"]


def _read_catalogue(value: object) -> object:
    """A list of ids as items without features."""
    if not isinstance(value, list):
        return value
    ids: dict[str, dict[str, ScalarValue]] = {}
    for item in value:
        if not isinstance(item, str | int) or isinstance(item, bool):
            raise ValueError(f"{item!r:.80} is not an item's id: ids are strings or whole numbers")
        if str(item) in ids:
            raise ValueError(f"the item {item!r:.80} is listed twice")
        ids[str(item)] = {}
    return ids


class RecommendForm(Form):
    """Which items a request chooses from, and by which policy."""

    candidates: str | None = Field(
        default=None, description="the feature of type items that holds a request's candidates [default: the catalogue]"
    )
    catalogue: Annotated[
        dict[str, dict[str, ScalarValue]],
        BeforeValidator(_read_catalogue),
        Field(max_length=10_000),
    ] = Field(
        default_factory=dict,
        description="items that every request chooses from: a list of ids, or features of each by id",
    )
    candidates_max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1_000, description="maximum number of candidates of a request"
    )
    slate: Annotated[int, Field(ge=1, le=100)] = Field(default=1, description="number of items in a slate")
    policy: PolicyName = Field(
        default="thompson",
        description="thompson or linucb (models of items, as in LinearItems()), epsilon_greedy or softmax (any model), "
        "popularity, or uniform",
    )
    epsilon: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.05,
        description="share of uniform exploration; above 0, any other policy can be judged from the log",
    )
    alpha: Annotated[float, Field(ge=0, le=100)] = Field(
        default=1.0, description="thompson, linucb: deviations that count; more explores more"
    )
    temperature: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=0.1, description="softmax: difference in expected reward that makes an item e times as likely"
    )
    draws: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="thompson: samples of the posterior, whose shares are the propensities"
    )
    user: str | None = Field(
        default=None, description="the feature that names the user, for River's reco models (matrix factorization)"
    )
    shown: str = Field(
        default="shown",
        description="the feature of type slate that holds what another policy showed; added if not declared",
    )
    items_max: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1_000, description="maximum number of items whose popularity is kept, per shard"
    )
