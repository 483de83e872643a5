"""Several classes in simulations, and guards of them: they have neither a range nor a step."""

from __future__ import annotations

from random import Random
from typing import Any

MODELS = (
    "GaussianNB()",
    "StandardScaler() | OneVsRestClassifier(LogisticRegression())",
    "HoeffdingTreeClassifier(grace_period=5)",
)


def declare(rng: Random, document: dict[str, Any]) -> None:
    """Some pipelines of two classes have several, unless their model knows two alone or a feature is made of labels."""
    made_of_labels = any("label_" in str(one) for one in document["event"]["features"].values())
    if document["task"] != "binary" or "poisonous" in document["model"] or made_of_labels or rng.random() < 0.65:
        return
    document |= {"task": "multiclass", "model": rng.choice(MODELS)}


def guard(rng: Random) -> dict[str, Any]:
    """Outputs whose shares change, a model that has learned little, what is unfamiliar; any action, any fallbacks."""
    made: dict[str, Any] = {}
    actions = ("flag", "last_good", "fallback", "withhold", "hold")
    if rng.random() < 0.8:
        made["distribution"] = {"distance_max": rng.choice((0.1, 0.3)), "latest": 20, "action": rng.choice(actions)}
    if rng.random() < 0.5 or not made:
        made["untrained"] = {"labels_min": rng.choice((1, 5, 20)), "action": rng.choice(actions)}
    if rng.random() < 0.3:
        made["unfamiliar"] = {"score_max": rng.choice((0.3, 0.8)), "action": rng.choice(actions)}
    fallbacks: list[Any] = rng.sample(["last_good", {"model": rng.choice(MODELS)}], rng.choice((1, 2)))
    if rng.random() < 0.5:
        fallbacks.append({"value": rng.choice((0, "far", "none of them"))})
    made["fallback"] = fallbacks
    if any(isinstance(rung, dict) and rung.get("action") == "hold" for rung in made.values()):
        then = rng.choice(("fallback", "withhold", "last_good"))
        made["hold"] = {"wait": rng.choice(("300ms", "1s", "1h")), "then": then, "max": rng.choice((2, 100))}
    return made


def truth(x: float) -> int:
    """The class of an event. Numbers alone: River's trees cannot sort them among texts."""
    return 3 if x > 1.5 else 0 if abs(x) < 0.5 else 1 if x < 0 else 2
