"""Logged recommendations in a table: what was shown, to whom, and what it earned, for `driftline init`.

Three kinds of table are known:

* `shown`: a row for each item that was shown, with what it earned; rows of one request share its id.
* `chosen`: a row for each request, with the candidates, the one that was shown, and what it earned.
* `clicked`: a row for each request, with the list that was shown, and the item of it that was clicked.

Many tables have a column that is called item and one of two values: sales that were returned, stock that ran out. So a
table is taken for a log by itself only where something says that items were chosen: propensities, rows that share a
request, a list with one item of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from driftline.author.leak import Cell
from driftline.author.profile import Field, Left, Profile, ProfileError, find_target, profile
from driftline.author.sample import Sample
from driftline.core.number import is_missing
from driftline.core.task import TaskName, task_of, tasks
from driftline.core.task.seen import Target
from driftline.core.timestamp import TimeForm

Kind: TypeAlias = Literal["shown", "chosen", "clicked"]
Column: TypeAlias = Sequence[Cell | None]

ITEMS_MAX: Final = 1_000  # that a request may have, unless the pipeline file says more
COLUMNS_MAX: Final = 31  # of `LinearItems`, beside the constant
_KINDS_MAX: Final = 20  # of users: more of them are users themselves
_USUAL: Final = 0.95  # share of the rows that have to be alike
_ROWS_LOOKED_AT: Final = 2_000
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ITEM: Final = frozenset({
    "item", "article", "product", "sku", "movie", "film", "song", "track", "video", "ad", "banner", "offer",
    "arm", "action", "book", "news", "story", "game", "listing", "creative", "campaign", "content", "post",
    "recipe", "course", "hotel", "recommendation",
})  # fmt: skip
_BESIDE: Final = frozenset({"id", "key", "code", "uuid", "name", "shown", "recommended", "displayed", "chosen"})
_USER: Final = frozenset({"user", "customer", "visitor", "member", "reader", "client", "viewer", "account", "person"})
_REQUEST: Final = frozenset({
    "request", "impression", "session", "search", "query", "visit", "pageview", "page", "view", "slate",
    "display", "recommendation", "rec", "round",
})  # fmt: skip
_POSITION: Final = frozenset({"position", "rank", "slot", "place", "pos"})
_PROPENSITY: Final = frozenset({"propensity", "propensities", "pscore"})
_LIKELY: Final = frozenset({"prob", "probability"})
_OF_ACTIONS: Final = frozenset({"action", "logging", "shown", "sampling", "policy", "logged", "display"})
_EARNED = re.compile(
    r"click|reward|conver|purchas|bought|watch|liked?$|opened|engage|play(?:ed)?$|rating|dwell", re.IGNORECASE
)


class Logged(Struct, frozen=True):
    """A table of logged recommendations.

    Args:
        reward: the label; `clicked` has the item of it there.
        item: the field with the item that was shown; of `clicked` none.
        listed: the field with the list of items; of `shown` none.
        request, user, position, propensity: further fields; None where there are none.
        items: ids in the order in which they came.
        slate: how many items most requests show.
        requests: of the rows that were looked at.
        target: what the reward looks like.
        found: its time, and what of a request a model may see.
        sure: whether it says so by itself.
        seen: what was seen, a sentence each.
    """

    kind: Kind
    reward: str
    item: str | None
    listed: str | None
    request: str | None
    user: str | None
    position: str | None
    propensity: str | None
    items: tuple[str, ...]
    slate: int
    requests: int
    target: Target | None
    found: Profile
    sure: bool
    seen: tuple[str, ...]


def find_logged(
    sample: Sample, label: str, *, event_id: str | None, time: str | None, form: TimeForm | None, asked: bool
) -> Logged | None:
    """Logged recommendations, if the table may be such.

    Args:
        label: the reward.
        event_id, time: what the user says they are.
        form: how times are written; None finds it out.
        asked: the user says that it is such a table, so less has to show it.
    """
    columns = sample.columns
    if label not in columns:
        return None
    roles = _Roles(columns, label, event_id, asked=asked)
    lists = {**sample.lists, **_lists_in(columns, label)}
    for name, lists_of in lists.items():
        if (one := _of_list(name, lists_of, columns, label, roles)) is not None:
            return _profiled(one, sample, roles, time, form)
    if roles.item is None or not _is_reward(label, columns[label]):
        return None
    return _profiled(_of_rows(roles, columns, label), sample, roles, time, form)


def item_beside(sample: Sample, label: str) -> str | None:
    """A field that names items beside a label that sounds like a reward, in a table that does not show more."""
    roles = _Roles(sample.columns, label, None, asked=False)
    return roles.item if _EARNED.search(label) else None


# -- which field is what


class _Roles:
    """Fields by what they are.

    Attributes:
        item, request, user, position, propensity: None where there is none.
        likely: what is called a probability, and is one of what was shown where a list says that one was chosen.
    """

    def __init__(self, columns: Mapping[str, Column], label: str, event_id: str | None, *, asked: bool) -> None:
        others = {name: cells for name, cells in columns.items() if name != label}
        words = {name: frozenset(word.lower() for word in _WORD.findall(name)) for name in others}
        shares = [name for name in others if _is_propensity(words[name], others[name])]
        named = [name for name in shares if words[name] & _PROPENSITY or (asked or words[name] & _OF_ACTIONS)]
        self.propensity, self.likely = next(iter(named), None), next(iter(shares), None)
        self.position = next((name for name in others if words[name] and words[name] <= _POSITION), None)
        self.item = next((name for name in others if _named(words[name], _ITEM) and _are_items(others[name])), None)
        ids = [name for name in others if _named(words[name], _REQUEST) and words[name] & {"id", "key", "uuid"}]
        free = [name for name in ids if name != self.item]
        alone = [name for name in others if words[name] == {"id"} and len(set(others[name])) == len(others[name])]
        self.request = event_id or next(iter([*free, *alone]), None)
        users = (name for name in others if _named(words[name], _USER) and name not in (self.item, self.request))
        self.user = next((name for name in users if _are_users(others[name])), None)


def _named(words: frozenset[str], kind: frozenset[str]) -> bool:
    return bool(words & kind) and words <= kind | _BESIDE


def _are_ids(cells: Column) -> bool:
    return all(isinstance(cell, str | int) and not isinstance(cell, bool) for cell in cells)


def _are_users(cells: Column) -> bool:
    """Whether they are ids, and too many to be kinds of users."""
    known = [cell for cell in cells if cell is not None]
    return _are_ids(known) and len(set(known)) > _KINDS_MAX


def _are_items(cells: Column) -> bool:
    """Whether they are ids that come again and again."""
    known = [cell for cell in cells if cell is not None]
    if len(known) < _USUAL * len(cells) or not _are_ids(known):
        return False
    return 2 <= len(set(known)) <= min(ITEMS_MAX, len(known) // 2)


def _is_propensity(words: frozenset[str], cells: Column) -> bool:
    known = [cell for cell in cells if cell is not None]
    if not words & (_PROPENSITY | _LIKELY) or len(known) < _USUAL * len(cells):
        return False
    return all(isinstance(cell, int | float) and not isinstance(cell, bool) and 0 < cell <= 1 for cell in known)


def _is_reward(label: str, cells: Column) -> bool:
    """Whether they are numbers, or two values."""
    try:
        target = find_target(label, cells, None)
    except ProfileError:
        return False
    return task_of(target.task).labels.two_valued or all(
        isinstance(cell, int | float) for cell in cells if cell is not None
    )


# -- the three kinds


def _of_rows(roles: _Roles, columns: Mapping[str, Column], label: str) -> Logged:
    """A row for each item that was shown."""
    items = columns[roles.item or ""]
    requests, slate, apart = len(items), 1, True
    if roles.request is not None:
        groups: dict[Cell | None, list[Cell | None]] = {}
        for one, item in zip(columns[roles.request], items, strict=True):
            groups.setdefault(one, []).append(item)
        requests = len(groups)
        slate = Counter(map(len, groups.values())).most_common(1)[0][0]
        apart = sum(len(set(group)) == len(group) for group in groups.values()) >= _USUAL * requests
    together = roles.request is not None and slate > 1 and apart
    seen = [f"{roles.item} names {len(set(items) - {None}):,} items that come again"]
    if together:
        seen.append(f"rows that share {roles.request} are the {slate} items of one request")
    if roles.propensity is not None:
        seen.append(f"{roles.propensity} holds the probability with which each was shown")
    seen.append(f"{label} is what it earned")
    sure = (roles.propensity is not None and apart) or (together and bool(_EARNED.search(label)))
    ids = tuple(dict.fromkeys(str(item) for item in items if item is not None))
    return _bare("shown", label, roles, ids, slate, requests, tuple(seen), sure=sure)


def _of_list(
    name: str, lists: Sequence[list[Any] | None], columns: Mapping[str, Column], label: str, roles: _Roles
) -> Logged | None:
    """A row for each request, if a field holds one of the items of its list."""
    known = [one for one in lists if one]
    if len(known) < _USUAL * len(lists) or max(map(len, known)) < 2:
        return None
    within = [{str(_id_of(item)) for item in one or ()} for one in lists]
    usual = Counter(map(len, known)).most_common(1)[0][0]
    ids = tuple(dict.fromkeys(str(_id_of(item)) for one in known for item in one))
    if len(ids) > ITEMS_MAX and usual > ITEMS_MAX:
        return None
    if _are_of(columns[label], within, always=False):
        shown = (
            f"{name} is the list of items that a request was shown",
            f"{label} is the one of them that was clicked",
        )
        made = _bare("clicked", label, roles, ids, usual, len(lists), shown, sure=True)
        return replace(made, item=None, listed=name, propensity=None)
    chosen = [one for one in columns if one not in (label, roles.request, roles.user) and _are_of(columns[one], within)]
    if not chosen or not _is_reward(label, columns[label]):
        return None
    share = roles.propensity or roles.likely
    seen = (
        f"{name} is the list of candidates of a request, and {chosen[0]} the one of them that was shown",
        *([f"{share} is the probability with which it was"] if share is not None else []),
        f"{label} is what it earned",
    )
    made = _bare("chosen", label, roles, ids, 1, len(lists), seen, sure=True)
    return replace(made, item=chosen[0], listed=name, propensity=share)


def _are_of(cells: Column, within: Sequence[set[str]], *, always: bool = True) -> bool:
    """Whether each cell is an item of the list beside it.

    Args:
        always: nearly every row has one.
    """
    known = [(cell, items) for cell, items in zip(cells, within, strict=True) if not _is_none(cell) and items]
    if not known or (always and len(known) < _USUAL * len(cells)):
        return False
    ids = [cell for cell, _ in known if isinstance(cell, str | int) and not isinstance(cell, bool)]
    return len(ids) == len(known) and sum(str(cell) in items for cell, items in known) >= _USUAL * len(known)


def _is_none(cell: Cell | None) -> bool:
    return cell is None or (isinstance(cell, str) and is_missing(cell))


def _id_of(item: Any) -> Any:
    return item.get("item") if isinstance(item, dict) else item


def _lists_in(columns: Mapping[str, Column], label: str) -> dict[str, list[list[Any] | None]]:
    """Columns of text in which a JSON array stands in each row."""
    found: dict[str, list[list[Any] | None]] = {}
    for name, cells in columns.items():
        known = [cell for cell in cells if cell is not None]
        if name == label or not known or not all(isinstance(cell, str) and cell[:1] == "[" for cell in known):
            continue
        try:
            found[name] = [None if cell is None else msgspec.json.decode(str(cell), type=list[Any]) for cell in cells]
        except msgspec.MsgspecError:
            continue
    return found


def _of_slates() -> TaskName:
    """The task that a log is for."""
    return next(one.name for one in tasks() if one.slates)


def _of_numbers() -> TaskName:
    """The task that a reward as a number is for."""
    return next(one.name for one in tasks() if one.labels.numeric and one.supervised)


def _bare(
    kind: Kind, label: str, roles: _Roles, items: tuple[str, ...], slate: int, requests: int, seen: tuple[str, ...],
    *, sure: bool,
) -> Logged:  # fmt: skip
    """Without the profile of the other fields, which depends on all that is found here."""
    nothing = Profile(Target(_of_slates()), roles.request, None, False, (), ())
    return Logged(
        kind, label, roles.item, None, roles.request, roles.user, roles.position, roles.propensity, items, slate,
        requests, None, nothing, sure, seen,
    )  # fmt: skip


# -- what a model may see of a request


def _profiled(one: Logged, sample: Sample, roles: _Roles, time: str | None, form: TimeForm | None) -> Logged:
    """With the time, and what is known of a request."""
    columns = sample.columns
    target = None if one.kind == "clicked" else find_target(one.reward, columns[one.reward], None)
    rewards = rewards_of(columns[one.reward], target)
    aside = {one.item, one.listed, one.user, one.position, one.propensity, one.reward}
    others = {name: cells for name, cells in columns.items() if name not in aside}
    try:
        found = profile(
            {**others, one.reward: rewards}, one.reward, event_id=one.request, time=time, task=_of_numbers(),
            typed=sample.typed, time_form=form, bare=True,
        )  # fmt: skip
    except ProfileError:  # nothing is known of a request
        found = one.found
    features, left = list[Field](), list(found.left)
    room = COLUMNS_MAX
    for field in found.features:
        why = _not_of_request(field, one, columns)
        needed = len({*columns[field.name]}) if field.use == "category" else 1
        if not why and needed > room:
            why = f"LinearItems has {COLUMNS_MAX} columns for what it sees, and this would need {needed:,} of them"
        if why:
            left.append(Left(field.name, field.type, why))
        else:
            features.append(field)
            room -= needed
    left += _of_roles(one)
    places = {name: place for place, name in enumerate(columns)}
    left.sort(key=lambda name: places.get(name.name, len(places)))
    found = replace(found, target=Target(_of_slates()), id=one.request, features=tuple(features), left=tuple(left))
    return replace(one, target=target, found=found)


def rewards_of(cells: Column, target: Target | None) -> list[Cell | None]:
    """Rewards as numbers.

    Args:
        target: of the label; None where it names the item that earned 1.
    """
    if target is None:
        return [0.0 if _is_none(cell) else 1.0 for cell in cells]
    if not isinstance(target.positive, str):
        return [float(cell) if isinstance(cell, int | float) else None for cell in cells]
    return [None if cell is None else float(cell == target.positive) for cell in cells]


def _not_of_request(field: Field, one: Logged, columns: Mapping[str, Column]) -> str:
    """Why a field says nothing of a request that is to be answered; empty where it may."""
    cells = columns[field.name]
    if field.use in ("text", "hashed"):
        return f"{len({*cells}):,} different values are too many: LinearItems has a column for each"
    if one.kind == "shown" and one.slate > 1 and one.request is not None:
        if not _depends(columns[one.request], cells):
            return "it differs between the items of one request, and the model sees the request only"
    elif one.item is not None and len(set(cells)) > 1 and _depends(columns[one.item], cells):
        return "it is the same for each item: LinearItems learns every item by itself"
    return ""


def _depends(on: Column, cells: Column) -> bool:
    """Whether rows that are alike in one field nearly always are in the other."""
    first: dict[Cell | None, Cell | None] = {}
    pairs = list(zip(on, cells, strict=True))[:_ROWS_LOOKED_AT]
    return sum(first.setdefault(key, cell) == cell for key, cell in pairs) >= _USUAL * len(pairs)


def _of_roles(one: Logged) -> Iterator[Left]:
    """The fields that are something else than a feature."""
    for name, why in (
        (one.position, "the place at which it was shown: not known before a slate is made"),
        (one.propensity, "the probability with which it was shown, which `shown` has"),
        (one.user, "names the user: only matrix factorization sees it"),
    ):
        if name is not None:
            yield Left(name, "string" if name == one.user else "number", why)
