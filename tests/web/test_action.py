"""What a person can do on the page, and what it becomes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from driftline.codec.command import is_signed
from driftline.config import Settings
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.operate.control import Outcome, Verdict
from driftline.web import explanation
from driftline.web.action import PAGE, carry_out
from driftline.web.board import Board
from driftline.web.explanation import Explainer
from driftline.web.record import Review
from tests.support.boards import NOW_MS, alert, board, note
from tests.support.pipelines import pipeline, settings

EPISODE = "cards-0-loss-e7"


class Shards:
    """Shards that answer as they are asked to."""

    def __init__(self, verdicts: Mapping[int, Verdict]) -> None:
        self.verdicts = verdicts
        self.values: list[bytes] = []

    async def __call__(
        self, values: Sequence[bytes], pipeline: Pipeline, settings: Settings, timeout_s: float
    ) -> Outcome:
        self.values += values
        return Outcome(2, self.verdicts)


def there() -> Board:
    made = board(episodes=[EPISODE, "cards-0-old"])
    made.take_alert(0, NOW_MS, alert(EPISODE))
    made.take_review(Review(output_id="e-0-1-5", event_id=2**60, state="held"))
    return made


async def act(wish: Any, **changes: Any) -> tuple[bool, str, dict[str, Any]]:
    shards = Shards({0: Verdict(), 1: Verdict()})
    at = settings("127.0.0.1:1").model_copy(update=changes)
    accepted, text = await carry_out(wish, there(), pipeline(), at, shards)
    (value,) = shards.values
    assert is_signed(value, at.ring) == bool(at.ring)
    return accepted, text, orjson.loads(value)


@pytest.mark.parametrize(
    ("wish", "command"),
    [
        ({"command": "acknowledge", "episode": EPISODE}, {"command": "acknowledge", "episode": EPISODE}),
        ({"command": "acknowledge", "episode": "cards-0-old"}, {"command": "acknowledge", "episode": "cards-0-old"}),
        (
            {"command": "silence", "episode": EPISODE, "for_ms": 3_600_000},
            {"command": "silence", "episode": EPISODE, "for_ms": 3_600_000},
        ),
        (
            {"command": "review", "decision": "approve", "output_id": "e-0-1-5", "why": " as usual "},
            {"command": "review", "decision": "approve", "event_id": 2**60, "why": "as usual"},
        ),
        (
            {"command": "review", "decision": "edit", "output_id": "e-0-1-5", "value": " 0.25 "},
            {"command": "review", "decision": "edit", "event_id": 2**60, "value": 0.25},
        ),
    ],
)
@pytest.mark.parametrize("key", [None, "a-key-of-this-deployment"])
async def test_an_action_is_a_command_of_ours(wish: Any, command: dict[str, Any], key: str | None) -> None:
    accepted, text, sent = await act({**wish, "by": "ana"}, snapshot_key=key)
    assert (accepted, text) == (True, "done")
    assert sent.pop("pipeline") == "cards"
    assert sent.pop("by") == "ana"
    assert {name: value for name, value in sent.items() if name not in ("sent_ms", "nonce", "signature")} == command


@pytest.mark.parametrize(
    "wish",
    [
        None,
        [],
        {},
        {"command": "reset"},
        {"command": "freeze"},
        {"command": "load", "part": 1},
        {"command": "acknowledge", "episode": "cards-0-unknown"},
        {"command": "silence", "episode": EPISODE},
        {"command": "silence", "episode": EPISODE, "for_ms": -1},
        {"command": "silence", "episode": EPISODE, "for_ms": 10**15},
        {"command": "review", "decision": "approve", "output_id": "e-0-2-5"},
        {"command": "review", "output_id": "e-0-1-5"},
        {"command": "review", "decision": "edit", "output_id": "e-0-1-5", "value": "much"},
    ],
)
async def test_nothing_else_is_sent(wish: Any) -> None:
    shards = Shards({})
    with pytest.raises(InputFileError):
        await carry_out(wish, there(), pipeline(), settings("127.0.0.1:1"), shards)
    assert not shards.values


@pytest.mark.parametrize(
    ("by", "operator", "expected"),
    [
        ("ana", "night shift", "ana"),
        ("", "night shift", "night shift"),
        (" \n", None, PAGE),
        ("a\x1b[1m", None, "a[1m"),
    ],
)
async def test_who_sent_it(by: str, operator: str | None, expected: str) -> None:
    _, _, sent = await act({"command": "acknowledge", "episode": EPISODE, "by": by}, operator=operator)
    assert sent["by"] == expected


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (
            {0: Verdict(), 1: Verdict("control_refused", "no such episode")},
            "refused (control_refused): no such episode",
        ),
        ({0: Verdict()}, "sent; no answer within 15 s. It takes effect once a worker runs"),
    ],
)
async def test_what_the_shards_say(verdicts: dict[int, Verdict], text: str) -> None:
    wish = {"command": "acknowledge", "episode": EPISODE}
    said = await carry_out(wish, there(), pipeline(), settings("127.0.0.1:1"), Shards(verdicts))
    assert said == (False, text)


async def test_an_alert_that_is_over_is_not_acknowledged() -> None:
    made = there()
    made.take_alert(0, NOW_MS, alert(EPISODE, state="resolved", update=2))
    made.take_entry(0, NOW_MS, note(episodes=[]))
    with pytest.raises(InputFileError, match="is open"):
        await carry_out(
            {"command": "acknowledge", "episode": EPISODE}, made, pipeline(), settings("127.0.0.1:1"), Shards({})
        )


# -- explanations


def explainer(tmp_path: Path, program: str) -> Explainer:
    at = settings("127.0.0.1:1").model_copy(update={"data_dir": tmp_path})
    return Explainer(pipeline(), at, (sys.executable, "-c", program))


async def test_an_explanation_is_what_the_command_prints(tmp_path: Path) -> None:
    program = "import sys; print(sys.argv[1:2], sys.argv[-1:], open(sys.argv[3]).read()[:15])"
    text = await explainer(tmp_path, program).explain("-h; rm")
    assert text == "['explain'] ['--event=-h; rm'] pipeline: cards\n"
    assert not list((tmp_path / "apart").iterdir())


async def test_what_was_derived_and_is_not_what_was_served_is_shown(tmp_path: Path) -> None:
    text = await explainer(tmp_path, "import sys; print('another score'); sys.exit(1)").explain("a")
    assert text == "another score\n"


async def test_the_token_is_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_WEB_TOKEN", "a-token-of-twenty-letters")
    text = await explainer(tmp_path, "import os; print(sorted(os.environ), os.nice(0))").explain("a")
    assert "DRIFTLINE_WEB_TOKEN" not in text


async def test_why_there_is_no_explanation(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no score of --event=a"):
        await explainer(tmp_path, "import sys; sys.exit('no score of ' + sys.argv[-1])").explain("a")


async def test_one_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanation, "TIMEOUT_S", 0.5)
    slow = explainer(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(InputFileError, match="not done in"):
        await slow.explain("a")
    with pytest.raises(InputFileError, match="not done in"):  # and not that another one is being explained
        await slow.explain("a")


async def test_one_at_a_time(tmp_path: Path) -> None:
    one = explainer(tmp_path, "print('because')")
    found = await asyncio.gather(one.explain("a"), one.explain("b"), return_exceptions=True)
    assert found[0] == "because\n"
    with pytest.raises(InputFileError, match="another score"):
        raise found[1]  # type: ignore[misc]  # it is checked to be one
