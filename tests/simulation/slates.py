"""Now and then a scenario's pipeline recommends: its labels are rewards, each for an item of a small catalogue."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final

ITEMS: Final = "abcde"
_MODELS: Final = {
    "LinearItems(half_life=200, items_max=4)": ("thompson", "linucb", "softmax"),
    "Popularity()": ("thompson", "epsilon_greedy", "popularity"),
    "FMRegressor(n_factors=2)": ("epsilon_greedy", "uniform"),
}


def recommend(rng: Random, document: dict[str, Any]) -> None:
    """Make a pipeline one of slates, three in ten of those whose model never raises and that keep no history."""
    past = any("history" in one for one in document["event"]["features"].values() if isinstance(one, dict))
    if rng.random() > 0.3 or past or "poisonous" in document["model"] or "context" in document["event"]:
        return
    model = rng.choice(list(_MODELS))
    settings = {"policy": rng.choice(_MODELS[model]), "slate": rng.choice((1, 2, 5)), "epsilon": rng.choice((0.0, 0.3))}
    document |= {"task": "recommend", "model": model, "metrics": ["Reward", "Uplift"]}
    document["recommend"] = {"catalogue": list(ITEMS), "draws": 5, **settings}
    document["label"] = {**{key: one for key, one in document["label"].items() if key != "missing"}, "item": "item"}


def with_item(rng: Random, value: str) -> str:
    """A label for an item, now and then for one that is not in the catalogue."""
    return json.dumps({**json.loads(value), "item": rng.choice((*ITEMS, "unknown"))})
