"""Drifts and reactions in plain words: what happened to a signal, for someone who does not program."""

from __future__ import annotations

from typing import Literal, TypeAlias

from app.core.monitor import Drift
from app.core.reaction import Reaction

Kind: TypeAlias = Literal["data_drift", "concept_drift", "score_drift", "data_quality", "label_coverage", "label_delay"]
_KINDS: dict[str, Kind] = {  # by signal; of a feature's, by what stands before its name
    "error": "concept_drift",
    "loss": "concept_drift",
    "score": "score_drift",
    "missing": "data_quality",
    "label_rate": "label_coverage",
    "label_delay": "label_delay",
}

_CAUSES = {
    "error": "its errors",
    "loss": "its loss",
    "score": "its scores",
    "label_rate": "the share of its labels that come",
    "label_delay": "the delay of its labels",
}


def kind_of(signal: str) -> Kind:
    """The kind of alert that a drift of this signal is."""
    return _KINDS.get(signal.partition(":")[0], "data_drift")


def telling(name: str, drift: Drift) -> str | None:
    """What a drift of any other signal than error, score and a feature's ranks means; None for those.

    Args:
        name: the pipeline's.
    """
    kind, _, what = drift.signal.partition(":")
    rises = drift.direction == "rise"
    often = f"{'more' if rises else 'less'} often"
    shares = f"{percent(drift.before)} before, {percent(drift.after)} now."
    unit = "labels" if kind in ("loss", "label_delay") else "events"
    since = f"Since about {drift.count_after:,} {unit} ago"
    match kind:
        case "loss":
            how = "been surer of wrong answers, or less sure of right ones" if rises else "given better probabilities"
            return f"{since} {name} has {how}: an average loss of {drift.before:.3g} before, {drift.after:.3g} now."
        case "novelty":
            return f"{since} {what} in {name} has {often} had values that were not seen at first: {shares}"
        case "rate":
            feature, _, value = what.partition("=")
            return f"{since} {feature} in {name} has {often} been {value!r}: {shares}"
        case "missing":
            return f"{since} {what} in {name} has been missing {often}: {shares}"
        case "label_rate":
            return f"{since} events of {name} have {often} got their label in time: {shares}"
        case "label_delay":
            later = "later" if rises else "sooner"
            return (
                f"{since} labels of {name} have come {later}: after longer than {percent(drift.before)} of the first "
                f"ones before, longer than {percent(drift.after)} of them now."
            )
        case "feature" if drift.unit == "bit":
            return f"{since} {what} in {name} has been true {often}: {shares}"
        case "feature" if drift.unit == "raw":
            higher = "higher" if rises else "lower"
            means = f"on average {drift.before:.4g} before, {drift.after:.4g} now."
            return f"{since} the values of {what} in {name} have been {higher}: {means}"
    return None


def telling_of(name: str, reaction: Reaction) -> str:
    """What was done to a model, and why."""
    kind, _, what = reaction.drift.signal.partition(":")
    why = f"because {what or _CAUSES[kind]} changed (see the alert before)"
    match reaction.act:
        case "boost":
            return f"{name} learns faster for a while, {why}."
        case "swap" if reaction.since is not None:
            labels = "label" if reaction.learned == 1 else f"{reaction.learned:,} labels"
            return f"A second model, which has learned from the last {labels}, serves {name} {why}."
    return f"{name} has begun again with an untrained model, {why}: its predictions are poor until it has learned."


def percent(share: float) -> str:
    """A share for reading: one digit after the point, two significant ones below 1%."""
    shown = 100 * share
    return f"{shown:.1f}%" if shown >= 1 or shown == 0 else f"{shown:.2g}%"
