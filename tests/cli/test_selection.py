"""The trial of `driftline init`: the best model is written, and it is said plainly where a baseline is better."""

from __future__ import annotations

import json
import math
import random
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from driftline.config import load_pipeline
from tests.cli.command import run
from tests.cli.test_init import works, written


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str) -> str:
    """What is printed beside the file."""
    done = run("init", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def table_of(shown: str) -> dict[str, list[float]]:
    """The figures by candidate."""
    lines = re.findall(r"^  (\S.*?) {2,}([-\d.,][-\d., ]*?)( \*)?$", shown, re.MULTILINE)
    return {name: [float(cell.replace(",", "")) for cell in cells.split() if cell != "-"] for name, cells, _ in lines}


def shops(days: int = 45) -> list[tuple[Any, ...]]:
    """Units of ten items a day, with a week's season and hardly any noise."""
    rng = random.Random(3)
    sizes = [rng.uniform(20, 200) for _ in range(10)]
    week = [0.7, 0.8, 0.9, 1.0, 1.2, 1.6, 1.3]
    return [
        (str(date(2024, 1, 1) + timedelta(day)), f"I{item}", round(3 + rng.random(), 2),
         round(size * week[day % 7] + rng.gauss(0, 1), 1))
        for day in range(days)
        for item, size in enumerate(sizes)
    ]  # fmt: skip


def test_a_season_by_key_is_found_and_the_best_is_written(folder: Path) -> None:
    data = written("shops.csv", ("date", "item", "price", "units"), shops())
    shown = init("--input", data, "--label", "units", "--label-delay", "1d")
    found = table_of(shown)
    mae = {name: cells[0] for name, cells in found.items()}
    assert mae["baseline: seasonal:7d:item"] < 6 < mae["baseline: mean_of:item"] < mae["baseline: mean"]
    best = min(mae, key=lambda name: mae[name])
    text = (folder / "shops.yaml").read_text()
    assert re.search(rf"^# +{re.escape(best)} .*\*$", text, re.MULTILINE)
    assert "labels 1d later" in text
    pipeline = load_pipeline(folder / "shops.yaml")
    assert {"item_weekday_label_last", "item_label_lag_7", "weekday"} <= set(pipeline.event.names)
    assert works(pipeline, data, "units")


def test_two_runs_write_the_same_bytes(folder: Path) -> None:
    data = written("shops.csv", ("date", "item", "price", "units"), shops(30))
    init("--input", data, "--label", "units", "-o", "a.yaml")
    init("--input", data, "--label", "units", "-o", "b.yaml")
    first, second = ((folder / name).read_text().replace(name, "") for name in ("a.yaml", "b.yaml"))
    assert first == second


def test_where_nothing_beats_the_baseline_it_says_so_and_writes_that(folder: Path) -> None:
    """Labels that no feature tells anything of."""
    rng = random.Random(4)
    rows = [(rng.gauss(0, 1), rng.choice("xyz"), round(rng.lognormvariate(1, 2), 3)) for _ in range(900)]
    data = written("noise.csv", ("a", "b", "y"), rows)
    shown = init("--input", data, "--label", "y")
    assert "NO MODEL BEATS THE BASELINE: the median of all labels so far has MAE" in shown
    assert "If large errors matter most:" in shown
    pipeline = load_pipeline(folder / "noise.yaml")
    assert pipeline.model.strip() == "StatisticRegressor(stats.Quantile(0.5))"
    assert "# The best model, for another trial:" in (folder / "noise.yaml").read_text()
    assert works(pipeline, data, "y")


def test_a_baseline_by_key_is_written_with_the_history_that_it_needs(folder: Path) -> None:
    """A field is copied from the last label of its card; all else is noise."""
    rng = random.Random(6)
    level = {card: rng.uniform(0, 1_000) for card in range(40)}
    rows = []
    for number in range(1_200):
        card = rng.randrange(40)
        level[card] += rng.gauss(0, 0.01) + (300 * rng.random() if rng.random() < 0.01 else 0)
        rows.append((1_700_000_000 + 3_600 * number, f"c{card}", rng.gauss(0, 1), round(level[card], 3)))
    data = written("cards.csv", ("time", "card", "x", "balance"), rows)
    shown = init("--input", data, "--label", "balance", "--time", "time")
    assert "NO MODEL BEATS THE BASELINE: the last label of the same card" in shown
    pipeline = load_pipeline(folder / "cards.yaml")
    assert pipeline.model.strip() == "EchoRegressor(on='baseline_last_of_card')"
    assert works(pipeline, data, "balance")


def test_what_features_say_only_together_is_found_by_a_forest(folder: Path) -> None:
    """Yes where one of two numbers is high and not both: no line and no single split tells it."""
    rng = random.Random(11)
    rows = []
    for _ in range(2_000):
        a, b = rng.uniform(-1, 1), rng.uniform(-1, 1)
        rows.append(
            (
                rng.choice("mn"),
                round(a, 3),
                round(b, 3),
                "yes" if ((a > 0) != (b > 0.2)) != (rng.random() < 0.05) else "no",
            )
        )
    data = written("xor.csv", ("site", "a", "b", "passed"), rows)
    found = table_of(init("--input", data, "--label", "passed"))
    assert found["forest"][0] > 0.75 > 0.65 > max(figures[0] for name, figures in found.items() if name != "forest")
    pipeline = load_pipeline(folder / "xor.yaml")
    assert pipeline.model.strip() == "ARFClassifier(n_models=10)"
    assert works(pipeline, data, "passed")


def test_always_0_does_not_win_where_most_counts_are_0(folder: Path) -> None:
    rng = random.Random(6)
    rows = [(shop := rng.randrange(6), round(rng.random(), 2), int(rng.random() < 0.05 * shop) * rng.randint(1, 3))
            for _ in range(1_500)]  # fmt: skip
    shown = init("--input", written("counts.csv", ("shop", "price", "sold"), rows), "--label", "sold")
    found = table_of(shown)
    assert min(found, key=lambda name: found[name][0]) != "baseline: median"
    assert "Most labels are 0, so always 0 would have a small MAE" in shown
    model = load_pipeline(folder / "counts.yaml").model
    assert "Quantile" not in model


def test_amounts_that_features_multiply_are_learned_as_logarithms(folder: Path) -> None:
    rng = random.Random(12)
    rows = []
    for _ in range(1_500):
        parts = [rng.choice("abcde") for _ in range(3)]
        size, web = rng.random(), rng.random() < 0.5
        usual = 20 * math.prod(2 ** (ord(part) - 97) for part in parts) * math.exp(size) * (0.7 if web else 1.0)
        rows.append((*parts, round(size, 3), "yes" if web else "no", round(usual * rng.lognormvariate(0, 0.2), 2)))
    data = written("orders.csv", ("kind", "shop", "brand", "size", "web", "amount"), rows)
    found = table_of(init("--input", data, "--label", "amount"))
    mae = {name: figures[0] for name, figures in found.items()}
    assert mae["linear, logarithms"] < 0.8 * min(value for name, value in mae.items() if name != "linear, logarithms")
    pipeline = load_pipeline(folder / "orders.yaml")
    assert "LogTargetRegressor(" in pipeline.model
    assert works(pipeline, data, "amount")


def test_a_forest_of_numbers_takes_texts_of_few_values(folder: Path) -> None:
    """River's linear models in the leaves raise at text, so that nothing would be learned of such an event."""
    rng = random.Random(13)
    rows = [
        (rng.choice("ab"), round(x, 3), round(y, 3), round(50 * ((x > 0.5) != (y > 0.5)) + rng.random(), 2))
        for x, y in ((rng.random(), rng.random()) for _ in range(2_000))
    ]
    data = written("both.csv", ("kind", "x", "y", "z"), rows)
    mae = {name: cells[0] for name, cells in table_of(init("--input", data, "--label", "z")).items()}
    assert mae["forest"] < 0.7 * mae["linear"]


def test_labels_that_repeat_are_told_by_the_last_ones(folder: Path) -> None:
    """The label stays as it is for long, and nothing else tells it."""
    rng = random.Random(5)
    state, rows = 0, []
    for _ in range(1_500):
        state = 1 - state if rng.random() < 0.05 else state
        rows.append((round(rng.gauss(0, 1), 3), round(rng.gauss(0, 1), 3), state))
    shown = init("--input", written("state.csv", ("a", "b", "up"), rows), "--label", "up")
    assert table_of(shown)["linear, own rates"][0] > 0.9
    assert "label_last: {history: label_last}" in (folder / "state.yaml").read_text()


def test_words_beside_numbers_may_be_counted_by_naive_bayes(folder: Path) -> None:
    """Many classes with few words each; the number says nothing, and cannot be counted."""
    rng = random.Random(16)
    rows = []
    for _ in range(1_000):
        kind = rng.randrange(10)
        words = []
        for _ in range(rng.randint(5, 20)):
            own, other = rng.random() < 0.2, rng.randrange(10)
            words.append(
                f"w{kind if own else other}{rng.choice('abcdefghijkl')}" if own or rng.random() < 0.2 else "the"
            )
        rows.append((" ".join(words), round(rng.gauss(0, 9), 2), rng.choice("xy"), f"queue {kind}"))
    data = written("mails.csv", ("body", "size", "from", "queue"), rows)
    found = table_of(init("--input", data, "--label", "queue"))
    assert found["naive Bayes, words"][0] == max(figures[0] for figures in found.values())
    pipeline = load_pipeline(folder / "mails.yaml")
    assert "Discard('size')" in pipeline.model
    assert works(pipeline, data, "queue")


def test_a_change_of_the_world_is_followed_by_a_faster_line(folder: Path) -> None:
    """What said yes says no from the middle on, and again."""
    rng = random.Random(17)
    rows = []
    for number in range(3_000):
        a, b = rng.gauss(0, 1), rng.gauss(0, 1)
        yes = (a - b > 0) == (number // 300 % 2 == 0)
        rows.append((round(a, 3), round(b, 3), int(yes)))
    data = written("turns.csv", ("a", "b", "yes"), rows)
    found = table_of(init("--input", data, "--label", "yes"))
    assert found["linear, fast"][0] > found["linear"][0] + 0.02 > found["linear, own rates"][0]


def test_amounts_of_events_are_seen_as_logarithms(folder: Path) -> None:
    """A ratio of two amounts, each over several sizes, says yes."""
    rng = random.Random(18)
    rows = []
    for _ in range(2_500):
        income, debt = rng.lognormvariate(10, 0.8), rng.lognormvariate(9, 1.4)
        rows.append((round(income), round(debt), int(1.5 * math.log(debt / income) + rng.gauss(0, 1) > -1)))
    data = written("loans.csv", ("income", "debt", "late"), rows)
    found = table_of(init("--input", data, "--label", "late"))
    others = [figures[0] for name, figures in found.items() if name != "linear, logarithms"]
    assert found["linear, logarithms"][0] > max(others) + 0.01
    pipeline = load_pipeline(folder / "loans.yaml")
    assert "Logarithms()" in pipeline.model
    assert works(pipeline, data, "late")


def test_classes_of_many_heaps_are_told_by_their_neighbours(folder: Path) -> None:
    rng = random.Random(19)
    heaps = [(rng.choice(["wheat", "rye", "oats"]), [rng.gauss(0, 3) for _ in range(5)]) for _ in range(15)]
    rows = []
    for _ in range(1_200):
        kind, middle = rng.choice(heaps)
        rows.append((*(round(rng.gauss(one, 0.8), 2) for one in middle), kind))
    data = written("fields.csv", ("a", "b", "c", "d", "e", "crop"), rows)
    found = table_of(init("--input", data, "--label", "crop"))
    others = [figures[0] for name, figures in found.items() if name != "neighbours"]
    assert found["neighbours"][0] > max(others) + 0.02
    pipeline = load_pipeline(folder / "fields.yaml")
    assert "KNNClassifier(" in pipeline.model
    assert works(pipeline, data, "crop")


def test_where_only_the_probabilities_are_better_it_says_so(folder: Path) -> None:
    """A third says yes, and no event is likelier than not to: always no is right as often."""
    rng = random.Random(15)
    rows = []
    for _ in range(2_500):
        x = rng.random()
        rows.append((round(x, 3), int(rng.random() < 0.15 + 0.33 * x)))
    data = written("offers.csv", ("x", "taken"), rows)
    shown = init("--input", data, "--label", "taken")
    assert re.search(r"is best, BUT RIGHT NO MORE OFTEN THAN THE BASELINE \(majority\): Accuracy 0\.\d+ against", shown)
    found = table_of(shown)
    best = min((figures[-1], name) for name, figures in found.items() if not name.startswith("baseline"))[1]
    assert f"* {best} is best" in shown
    assert works(load_pipeline(folder / "offers.yaml"), data, "taken")


def test_words_tell_a_number(folder: Path) -> None:
    """What a title says of a price."""
    rng = random.Random(14)
    worth = {"lamp": 20, "desk": 200, "sofa": 700, "rug": 60, "used": 0.5, "new": 1.2, "oak": 1.5, "small": 0.7}
    rows = []
    for number in range(1_500):
        thing, *words = rng.choice(["lamp", "desk", "sofa", "rug"]), *rng.sample(["used", "new", "oak", "small"], 2)
        price = worth[thing] * math.prod(worth[word] for word in words) * rng.lognormvariate(0, 0.1)
        rows.append((f"a {' '.join(words)} {thing} {number}", round(price, 2)))
    data = written("things.csv", ("title", "price"), rows)
    mae = {name: cells[0] for name, cells in table_of(init("--input", data, "--label", "price")).items()}
    assert min(mae.values()) < 0.4 * min(value for name, value in mae.items() if name.startswith("baseline"))
    pipeline = load_pipeline(folder / "things.yaml")
    assert pipeline.event.features["title"].type == "text"
    assert works(pipeline, data, "price")


@pytest.mark.slow
def test_words_of_a_text(folder: Path) -> None:
    rng = random.Random(4)
    rows = []
    for number in range(1_200):
        spam = number % 7 == 0
        words = ["see", "you", "at", "home", "for", "dinner", "tonight", "and", "bring", "milk"]
        digits = [str(rng.randrange(10**9)) for _ in range(3)] if spam else []
        rows.append((" ".join(rng.choices(words, k=8) + digits), "spam" if spam else "ham"))
    data = written("mail.csv", ("text", "kind"), rows)
    found = table_of(init("--input", data, "--label", "kind"))
    assert found["linear, words, signs, pairs"][0] > 0.99 > found["baseline: majority"][0]
    pipeline = load_pipeline(folder / "mail.yaml")
    assert "n_features" in pipeline.model
    assert pipeline.event.features["text"].type == "text"
    assert {name for _, name, _ in pipeline.drift.every() if name} == {"text"}  # watched before labels come
    assert works(pipeline, data, "kind")


def test_labels_that_come_after_a_week_are_waited_for(folder: Path) -> None:
    data = written("shops.csv", ("date", "item", "price", "units"), shops(30))
    init("--no-trial", "--input", data, "--label", "units", "--label-delay", "10d")
    label = load_pipeline(folder / "shops.yaml").label
    assert label is not None
    assert label.wait_ms == 20 * 86_400_000


def test_labels_that_come_later_than_the_rows_span_are_tried_as_late_as_these_allow(folder: Path) -> None:
    rng = random.Random(4)
    made = [(x := rng.gauss(0, 1), int(rng.random() < 1 / (1 + math.exp(-3 * x)))) for _ in range(800)]
    shown = init("--input", written("few.csv", ("a", "y"), made), "--label", "y", "--label-delay", "7d")
    assert "note: labels come 7d later, but the first 800 rows span 799 seconds" in shown
    assert "tried with labels 3m later" in shown
    assert "Tried on 800 rows, labels 3m later; figures over the last" in shown
    assert "is best: Accuracy" in shown
    label = load_pipeline(folder / "few.yaml").label
    assert label is not None
    assert label.wait_ms == 14 * 86_400_000


def test_without_enough_to_go_by_the_usual_model_is_written(folder: Path) -> None:
    rng = random.Random(4)
    made = [(rng.gauss(0, 1), rng.gauss(0, 1), int(rng.random() < 0.4)) for _ in range(40)]
    shown = init("--input", written("few.csv", ("a", "b", "y"), made), "--label", "y")
    assert "no trial: 40 labelled rows are too few" in shown
    assert load_pipeline(folder / "few.yaml").model.strip() == "StandardScaler() | LogisticRegression()"


def test_spam_of_another_vocabulary_alerts_before_its_labels_come(folder: Path) -> None:
    """What `init` writes watches the words of a text: from message 2,600 on, spam is written in other words."""
    rng = random.Random(8)
    ham, spam, other = (["".join(rng.choices("abcdefghij", k=6)) for _ in range(size)] for size in (300, 80, 900))
    change, count, delay_s = 2_600, 3_400, 1_000
    rows = []
    for number in range(count):
        is_spam = rng.random() < 0.3
        words = ham if not is_spam else spam if number < change else other
        rows.append((" ".join(rng.choices(words, k=10)), "spam" if is_spam else "ham"))
    data = written("mail.csv", ("text", "kind"), rows)
    init("--no-trial", "--input", data, "--label", "kind")
    flags = ("--input", data, "--label", "kind", "--label-delay", f"{delay_s}s", "--processes", "1", "-o", "out")
    assert run("backtest", "-p", "mail.yaml", *flags).returncode == 0
    made = json.loads(Path("out/report.json").read_bytes())
    opened = [one for one in made["candidates"][0]["alerts"] if one["state"] == "opened"]
    found = [one for one in opened if one["evidence"].get("signal") == "vocabulary:text"]
    assert found
    row = (found[0]["time_ms"] - made["source"]["start_ms"]) // made["source"]["step_ms"]
    assert change < row < change + delay_s
    assert "words" in found[0]["sentence"]
