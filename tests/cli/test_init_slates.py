"""`driftline init` of logged recommendations: a pipeline that recommends, and plain words where the log cannot tell."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from driftline.config import load_pipeline
from driftline.core.pipeline.recommend import RecommendForm
from tests.cli.command import init as quick
from tests.cli.command import run
from tests.cli.test_init import written
from tests.cli.test_json import check
from tests.cli.test_selection import init, table_of

ITEMS = [f"a{number}" for number in range(8)]
KINDS = ("old", "young")
START = 1_700_000_000_000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def likes(kind: str, item: str) -> float:
    """The chance of a click: each kind of reader likes two items that the other does not."""
    place = ITEMS.index(item) - 4 * KINDS.index(kind)
    return 0.7 if 0 <= place < 2 else 0.1


def requests(count: int, slate: int = 2, fixed: Mapping[str, list[str]] = {}) -> Iterator[dict[str, Any]]:
    """Requests, with what was shown and clicked.

    Args:
        fixed: what is shown to each kind; at random without.
    """
    rng = random.Random(1)
    for number in range(count):
        kind = rng.choice(KINDS)
        shown = fixed.get(kind) or rng.sample(ITEMS, slate)
        clicked = [item for item in shown if rng.random() < likes(kind, item)]
        yield {
            "request_id": f"r{number}", "at": START + 1_000 * number, "kind": kind, "age": rng.randrange(20, 70),
            "shown": shown, "clicked": clicked,
        }  # fmt: skip


def shown_rows(count: int, propensity: float | None = 0.25, fixed: Mapping[str, list[str]] = {}) -> str:
    header = ["request_id", "at", "kind", "age", "item", "position", "click", *(["propensity"] if propensity else [])]
    rows = [
        (
            one["request_id"], one["at"], one["kind"], one["age"], item, place, int(item in one["clicked"]),
            *([propensity] if propensity else []),
        )
        for one in requests(count, fixed=fixed)
        for place, item in enumerate(one["shown"])
    ]  # fmt: skip
    return written("log.csv", header, rows)


def lines_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def form_of(path: str) -> RecommendForm:
    form = load_pipeline(Path(path)).recommend
    assert form is not None
    return form


def test_a_log_with_propensities_chooses_among_policies_and_works(folder: Path) -> None:
    shown = init("--input", shown_rows(1_500), "--label", "click")
    words = " ".join(shown.split())
    assert "item names 8 items that come again; rows that share request_id are the 2 items of one request" in words
    assert "propensity holds the probability" in words
    assert "to predict each row, add --task binary" in words
    reward = {name: cells[0] for name, cells in table_of(shown).items()}
    assert reward["thompson linear"] > 1.3 * reward["baseline: popularity"]
    truth = 2 * (0.7 * 2 + 0.1 * 6) / 8  # of slates at random
    assert reward["baseline: uniform"] == pytest.approx(truth, rel=0.1)
    assert reward["thompson linear"] == pytest.approx(1.4, rel=0.2)  # at best, and .05 of it at random
    form = form_of("log.yaml")
    assert (form.policy, form.slate, sorted(form.catalogue), form.candidates) == ("thompson", 2, ITEMS, None)
    pipeline = load_pipeline(folder / "log.yaml")
    assert [name for name in pipeline.event.features if name != "shown"] == ["kind", "age"]
    assert pipeline.label is not None
    assert (pipeline.label.id, pipeline.label.item, pipeline.label.value) == ("request_id", "item", "click")
    text = (folder / "log.yaml").read_text()
    assert "thompson linear" in text
    assert "better by" in text
    assert "# position: number" in text
    done = run("check", "-p", "log.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    events = ("--events", "log.requests.jsonl", "--labels", "log.rewards.jsonl")
    done = run("backtest", "-p", "log.yaml", *events, "--json", "--out", "made")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["candidates"][0]["metrics"]
    assert metrics["Support"] == pytest.approx(1.0, abs=0.1)
    assert metrics["DoublyRobust"] > 1.3 * metrics["Popularity"]


def test_the_log_is_written_as_requests_and_rewards() -> None:
    log = list(requests(60))
    assert quick("--input", shown_rows(60), "--label", "click", "--label-delay", "5s").exit_code == 0
    made = lines_of("log.requests.jsonl")
    assert [(one["request_id"], one["at"], one["kind"], one["age"]) for one in made] == [
        (one["request_id"], one["at"], one["kind"], one["age"]) for one in log
    ]
    assert [one["shown"] for one in made] == [
        [{"item": item, "propensity": 0.25} for item in one["shown"]] for one in log
    ]
    assert lines_of("log.rewards.jsonl") == [
        {"request_id": one["request_id"], "item": item, "click": 1.0, "at": one["at"] + 5_000}
        for one in log for item in one["shown"] if item in one["clicked"]
    ]  # fmt: skip
    label = load_pipeline(Path("log.yaml")).label
    assert label is not None
    assert label.wait_ms == 10_000


def test_rows_of_a_request_may_stand_apart_but_not_far() -> None:
    data = shown_rows(700)
    with Path(data).open() as file:
        header, *rows = csv.reader(file)
    near = [*rows[0:1], *rows[2:40], rows[1], *rows[40:]]
    assert quick("--input", written("near.csv", header, near), "--label", "click").exit_code == 0
    quick("--input", data, "--label", "click")
    assert sorted(map(str, lines_of("near.requests.jsonl"))) == sorted(map(str, lines_of("log.requests.jsonl")))
    done = quick("--input", written("far.csv", header, [*rows[0:1], *rows[2:], rows[1]]), "--label", "click")
    assert done.exit_code == 0, done.output
    assert "1 rows are not in the log" in done.output
    assert "'r0' are more than 1,000 rows apart" in done.output


def test_without_propensities_it_says_that_it_cannot_tell() -> None:
    shown = init("--input", shown_rows(300, propensity=None), "--label", "click")
    assert "THE LOG CANNOT TELL which policy is better: it does not say how likely each item was" in shown
    assert "thompson linear is written: it explores" in shown
    assert form_of("log.yaml").policy == "thompson"
    assert "THE LOG CANNOT TELL" in Path("log.yaml").read_text()
    events = ("--events", "log.requests.jsonl", "--labels", "log.rewards.jsonl")
    done = run("backtest", "-p", "log.yaml", *events, "--json", "--out", "made")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["candidates"][0]["metrics"]["SNIPS"] is None


def test_of_what_was_always_shown_it_cannot_tell() -> None:
    fixed = {"old": ["a0", "a2"], "young": ["a5", "a6"]}
    shown = init("--input", shown_rows(600, 1.0, fixed), "--label", "click")
    assert "THE LOG CANNOT TELL which policy is better" in shown
    assert "never shown by the policy that wrote the log" in shown
    assert form_of("log.yaml").policy == "thompson"
    fixed = {"old": ["a0", "a2"], "young": ["a0", "a2"]}
    shown = init("--input", shown_rows(300, 1.0, fixed), "--label", "click", "--force")
    assert "only 2 items were ever shown, as many as a slate has" in shown


def test_where_nothing_is_known_of_readers_popularity_is_hard_to_beat() -> None:
    rng = random.Random(2)
    chances = dict(zip(ITEMS, [0.5, 0.3, *[0.05] * 6], strict=True))
    rows = []
    for number in range(1_200):
        item = rng.choice(ITEMS)
        rows.append((f"r{number}", item, round(rng.random(), 2), int(rng.random() < chances[item]), 0.125))
    header = ("request_id", "item", "noise", "clicked", "propensity")
    shown = init("--input", written("log.csv", header, rows), "--label", "clicked")
    assert "NO POLICY BEATS POPULARITY" in shown or "THE LOG CANNOT TELL IT FROM POPULARITY" in shown
    assert form_of("log.yaml").slate == 1


def test_a_row_a_request_with_candidates_and_the_one_that_was_chosen() -> None:
    rng = random.Random(3)
    with Path("log.jsonl").open("w") as file:
        for one in requests(400, slate=4):
            item = rng.choice(one["shown"])
            row = {
                "id": one["request_id"], "at": one["at"], "kind": one["kind"], "candidates": one["shown"],
                "chosen": item, "prob": 0.25, "bought": item in one["clicked"],
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
    shown = init("--input", "log.jsonl", "--label", "bought")
    assert "candidates is the list of candidates of a request, and chosen the one of them that was shown" in shown
    assert "prob is the probability with which it was" in shown
    assert "baseline: popularity" in table_of(shown)
    form = form_of("log.yaml")
    assert (form.candidates, form.slate, dict(form.catalogue)) == ("candidates", 1, {})
    first = lines_of("log.requests.jsonl")[0]
    assert len(first["candidates"]) == 4
    assert first["shown"] == [{"item": first["shown"][0]["item"], "propensity": 0.25}]
    done = run("check", "-p", "log.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_row_a_request_with_what_was_shown_and_the_one_that_was_clicked() -> None:
    rows = [
        (one["request_id"], one["at"], one["kind"], json.dumps(one["shown"]), (one["clicked"] or [""])[0])
        for one in requests(300, slate=3)
    ]
    header = ("id", "at", "kind", "shown", "clicked")
    shown = init("--input", written("log.csv", header, rows), "--label", "clicked")
    assert "shown is the list of items that a request was shown; clicked is the one of them that was clicked" in shown
    assert "THE LOG CANNOT TELL" in shown
    assert form_of("log.yaml").slate == 3
    assert [one["shown"] for one in lines_of("log.requests.jsonl")] == [json.loads(row[3]) for row in rows]
    rewards = [(one["id"], one["item"], one["reward"]) for one in lines_of("log.rewards.jsonl")]
    assert rewards == [(row[0], row[4], 1.0) for row in rows if row[4]]
    done = run("check", "-p", "log.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("none", ["", None])
def test_a_request_without_a_click_may_have_an_empty_one(none: str | None) -> None:
    with Path("log.jsonl").open("w") as file:
        for one in requests(100, slate=3):
            row = {"id": one["request_id"], "shown": one["shown"], "clicked": (one["clicked"] or [none])[0]}
            file.write(json.dumps(row) + "\n")
    done = quick("--input", "log.jsonl", "--label", "clicked")
    assert done.exit_code == 0, done.output
    pipeline = load_pipeline(Path("log.yaml"))
    assert (pipeline.task, pipeline.model.strip()) == ("recommend", "Popularity()")
    assert len(lines_of("log.rewards.jsonl")) == sum(bool(one["clicked"]) for one in requests(100, slate=3))


def test_an_ordinary_table_with_an_item_is_predicted_row_by_row() -> None:
    """Several items an order, of which some were returned: nobody chose to show them."""
    rng = random.Random(4)
    rows = [
        (f"o{number // 3}", rng.choice(ITEMS), round(rng.lognormvariate(3, 1), 2), int(rng.random() < 0.3))
        for number in range(300)
    ]
    data = written("orders.csv", ("order_id", "item", "price", "returned"), rows)
    done = quick("--input", data, "--label", "returned")
    assert done.exit_code == 0, done.output
    assert load_pipeline(Path("orders.yaml")).task == "binary"
    assert not Path("orders.requests.jsonl").exists()
    assert "recommend" not in done.output


def test_an_item_and_a_click_alone_are_predicted_and_the_other_task_is_named() -> None:
    rng = random.Random(5)
    rows = [(rng.choice(ITEMS), rng.choice(KINDS), rng.randrange(9), int(rng.random() < 0.3)) for _ in range(300)]
    data = written("views.csv", ("item", "kind", "hour", "clicked"), rows)
    done = quick("--input", data, "--label", "clicked")
    assert load_pipeline(Path("views.yaml")).task == "binary"
    assert "item names items, but nothing says that they were chosen" in done.output
    assert "add --task recommend" in done.output
    done = quick("--input", data, "--label", "clicked", "--task", "recommend", "--force")
    assert done.exit_code == 0, done.output
    assert load_pipeline(Path("views.yaml")).task == "recommend"
    assert "no field names requests, so each row is one" in done.output


def test_another_task_may_be_asked_for_and_a_table_without_items_is_refused() -> None:
    data = shown_rows(200)
    assert quick("--input", data, "--label", "click", "--task", "binary").exit_code == 0
    assert load_pipeline(Path("log.yaml")).task == "binary"
    rows = [(number, random.Random(number).random(), number % 2) for number in range(100)]
    done = quick("--input", written("plain.csv", ("a", "b", "y"), rows), "--label", "y", "--task", "recommend")
    assert done.exit_code == 2
    assert "no logged recommendations. Give a row for each item that was shown" in done.output


def test_rewards_may_be_amounts_or_words() -> None:
    rng = random.Random(6)
    rows = [
        (f"q{number // 2}", ITEMS[(number + number // 2) % 8], rng.choice([0, 0, 12.5]), rng.choice(["yes", "no"]))
        for number in range(400)
    ]
    data = written("shop.csv", ("query_id", "product_id", "reward", "purchased"), rows)
    assert quick("--input", data, "--label", "reward").exit_code == 0
    assert {one["reward"] for one in lines_of("shop.rewards.jsonl")} == {12.5}
    assert quick("--input", data, "--label", "purchased", "--force").exit_code == 0
    made = lines_of("shop.rewards.jsonl")
    assert len(made) == sum(row[3] == "yes" for row in rows)
    assert {one["purchased"] for one in made} == {1.0}


def test_files_that_are_there_stay_and_standard_output_writes_none(folder: Path) -> None:
    data = shown_rows(100)
    Path("log.rewards.jsonl").write_text("mine")
    done = quick("--input", data, "--label", "click")
    assert done.exit_code == 2
    assert "log.rewards.jsonl already exists" in done.output
    assert not Path("log.yaml").exists()
    Path("log.rewards.jsonl").unlink()
    done = quick("--input", data, "--label", "click", "-o", "-")
    assert done.exit_code == 0
    assert "task: recommend" in done.output
    assert sorted(path.name for path in folder.iterdir()) == ["log.csv"]


def test_the_trial_is_a_document_too() -> None:
    done = run("init", "--input", shown_rows(400), "--label", "click", "--label-delay", "5s", "--json")
    assert done.returncode == 0, done.stderr
    trial = check("init", done.stdout)["trial"]
    assert (trial["rows"], trial["label_delay_ms"], trial["metric"]) == (400, 5_000, "DoublyRobust")
    baselines = {one["name"] for one in trial["candidates"] if one["baseline"]}
    assert baselines == {"popularity", "uniform"}
    assert trial["chosen"] in {one["name"] for one in trial["candidates"]}


def test_two_runs_write_the_same_bytes() -> None:
    data = shown_rows(400)
    texts = []
    for name in ("a.yaml", "b.yaml"):
        init("--input", data, "--label", "click", "-o", name, "--force")
        texts.append(Path(name).read_text().replace(name, ""))
    assert texts[0] == texts[1]
