"""What a person may do on the page: acknowledge or silence an episode, decide about a prediction that is held.

Each is the command that `driftline control` or `review` would send, written to the control topic, where it stands with
who sent it. The form is checked here, and what it is about must be known to the page, so that a command names what is
there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from driftline.codec.command import BY_MAX, encode_command
from driftline.config import Settings
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.core.shard.command import SILENCE_MAX_MS
from driftline.operate.control import Outcome, give, sender
from driftline.operate.review import value_of
from driftline.web.board import Board
from driftline.web.record import NAME_MAX, cut, fit

TIMEOUT_S = 15.0
WHY_MAX = 500  # characters
PAGE = "a worker's page"  # who sent a command of someone without a name

Give: TypeAlias = Callable[[Sequence[bytes], Pipeline, Settings, float], Awaitable[Outcome]]


class Wish(Struct):
    """What the page sends.

    Args:
        episode: of acknowledge and silence.
        for_ms: of silence, in event time.
        decision, output_id, value, why: of review; the output's id names the event.
        by: who, as they say themselves.
    """

    command: Literal["acknowledge", "silence", "review"]
    episode: str = ""
    for_ms: int = 0
    decision: Literal["approve", "edit", "refuse"] | None = None
    output_id: str = ""
    value: str = ""
    why: str = ""
    by: str = ""


async def carry_out(
    document: Any, board: Board, pipeline: Pipeline, settings: Settings, give: Give = give
) -> tuple[bool, str]:
    """Send a command.

    Returns:
        Whether every shard has accepted it, and what to say.

    Raises:
        InputFileError: it is no such command, or about nothing that is there.
        BrokerError: Kafka did not take it.
    """
    wish = fit(document, Wish) if isinstance(document, dict) else None
    if wish is None:
        raise InputFileError("not an action of this page; reload it")
    command = _command(wish, board, pipeline)
    by = "".join(filter(str.isprintable, wish.by)).strip()[:BY_MAX] or settings.operator or PAGE
    value = encode_command(command, sender(pipeline, by), settings.ring)
    return _told(await give([value], pipeline, settings, TIMEOUT_S))


def _command(wish: Wish, board: Board, pipeline: Pipeline) -> dict[str, Any]:
    """The command that a wish is."""
    if wish.command == "review":
        return _ruling(wish, board, pipeline)
    if not _is_open(wish.episode, board):
        raise InputFileError(f"no alert {cut(wish.episode, NAME_MAX)!r} is open")
    if wish.command == "acknowledge":
        return {"command": "acknowledge", "episode": wish.episode}
    if not 0 < wish.for_ms <= SILENCE_MAX_MS:
        raise InputFileError("an alert can be silenced for 1 ms to 365 d")
    return {"command": "silence", "episode": wish.episode, "for_ms": wish.for_ms}


def _is_open(name: str, board: Board) -> bool:
    episode = board.episodes.get(name)
    if episode is not None:
        return episode.is_open
    return any(name in shard.note.episodes for shard in board.shards.values() if shard.note is not None)


def _ruling(wish: Wish, board: Board, pipeline: Pipeline) -> dict[str, Any]:
    """A decision; the event's id is taken from the review itself, as its type is there."""
    review = next((one for one in board.reviews.values() if one.output_id == wish.output_id), None)
    if review is None or wish.decision is None:
        raise InputFileError("this prediction does not wait for a decision any more")
    command: dict[str, Any] = {"command": "review", "decision": wish.decision, "event_id": review.event_id}
    if wish.decision == "edit":
        command["value"] = value_of(wish.value.strip(), pipeline, review.prediction)
    if wish.why.strip():
        command["why"] = wish.why.strip()[:WHY_MAX]
    return command


def _told(outcome: Outcome) -> tuple[bool, str]:
    """What became of it."""
    refused = [verdict for verdict in outcome.verdicts.values() if verdict.reason]
    if refused:
        return False, f"refused ({cut(refused[0].reason, NAME_MAX)}): {cut(refused[0].detail)}"
    if len(outcome.verdicts) < outcome.shards:
        return False, f"sent; no answer within {TIMEOUT_S:g} s. It takes effect once a worker runs"
    return True, "done"
