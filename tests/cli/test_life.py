"""A worker's life with every secret set: all that it writes is JSON, and nothing that anyone can read has a secret.

One life serves all tests here: start, traffic, an alert, a webhook that refuses, a broker that goes away, a stop.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from driftline.config import Settings
from driftline.devbroker.embedded import start as start_embedded
from tests.cli.command import COMMAND, PIPELINE, environment, run
from tests.cli.test_json import check
from tests.support.command import Worker, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WITHIN_S = 600.0
ROWS = 300
PAGES = ("/", "/api/about", "/api/state", "/metrics", "/health/live", "/health/ready", "/runbook")
SECRETS = {
    "DRIFTLINE_SASL_PASSWORD": "secret-password-5d1f",
    "DRIFTLINE_SNAPSHOT_KEY": "secret-key-first-91ab,secret-key-second-77cd",
    "DRIFTLINE_WEB_TOKEN": "secret-token-of-the-page-08e7",
    "HOOK_ADDRESS": "secret-path-3e0c",
    "HOOK_TOKEN": "secret-token-c4b2",
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "topics check": (),
    "check --against-live": (),
    "status": (),
    "verify": (),
    "explain": ("--event", "t7"),
    "digest": (),
    "card": (),
}  # those that print for people, and change nothing
ALL = tuple(part for value in SECRETS.values() for part in value.split(","))
BROKEN = """
import sys
from driftline.engine.worker import Worker

async def run(self):
    import threading, warnings
    warnings.warn("a warning of Python's")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    raise RuntimeError("of several\\nlines")

Worker.run = run
sys.argv = ["driftline", *sys.argv[1:]]
from driftline.__main__ import run
run()
"""


class Life(NamedTuple):
    """What was written, by who wrote it."""

    log: str
    pages: dict[str, str]
    outputs: dict[str, str]
    documents: dict[str, str]


class Place(NamedTuple):
    """Files of the pipeline, and the settings of all that works on it."""

    folder: Path
    file: Path
    rows: Path
    settings: dict[str, str]

    def run(self, *arguments: str | Path, **more: str) -> str:
        """A command to its end, whatever that is: what it printed anywhere."""
        done = run(*arguments, **{**self.settings, **more})
        return done.stdout + done.stderr

    def printed(self, *arguments: str | Path) -> str:
        """What a command prints that ends well."""
        done = run(*arguments, **self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout


def prepared(folder: Path) -> Place:
    file, rows, hooks = folder / "cards.yaml", folder / "rows.csv", folder / "hooks.yaml"
    kpi = "kpi: {loss: {unit: EUR, costs: {false_negative: 9, false_positive: 9}, limit: 1}}\n"
    file.write_text(PIPELINE + kpi + "digests: {hourly: {every: 1h, to: refused}}\n")
    lines = [f"t{i},{i * 1.5},{'NL' if i % 3 else 'DE'},{i % 2}" for i in range(ROWS)]
    rows.write_text("id,amount,country,fraud\n" + "\n".join(lines) + "\n")
    hooks.write_text(
        "webhooks:\n"
        f"  refused: {{form: json, url: 'http://127.0.0.1:{free_port()}/${{HOOK_ADDRESS}}', give_up: 5s, "
        "headers: {Authorization: 'Bearer ${HOOK_TOKEN}'}}\n"
    )
    return Place(folder, file, rows, {**SECRETS, "DRIFTLINE_NOTIFY": str(hooks), "DRIFTLINE_LOG_FORMAT": "json"})


def lines(text: str) -> list[dict[str, Any]]:
    """The lines of a log; fails at one that is not an object of JSON."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) and {"time", "level", "logger", "message"} <= line.keys() for line in found)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return prepared(tmp_path_factory.mktemp("life"))


@pytest.fixture(scope="module")
def life(place: Place) -> Iterator[Life]:
    pages: dict[str, str] = {}
    outputs: dict[str, str] = {}
    documents: dict[str, str] = {}
    with start_embedded() as broker:
        on = ("-p", str(place.file), "--bootstrap", broker.bootstrap)
        outputs["topics"] = place.run("topics", "create", *on)
        sent = ("--input", str(place.rows), "--label", "fraud", "--id", "id")
        with Worker(place.file, broker.bootstrap, place.folder, changes=place.settings) as worker:
            worker.until_ready()
            documents["produce"] = place.printed("produce", *on, *sent, "--json")
            documents["control"] = place.printed("control", *on, "reset", "--json")
            outputs["control"] = place.run("control", *on, "snapshot")
            outputs["alert"] = place.run("tail", "alerts", *on, "--from-beginning", "--limit", "1", "--timeout", "60")
            worker.until_said("webhook refused", WITHIN_S)
            for name, more in COMMANDS.items():
                documents[name] = place.printed(*name.split(), *on, *more, "--json")
                outputs[name] = place.run(*name.split(), *on, *more)
            outputs["check"] = place.run("check", *on, "--no-proof", "--json") + place.run("check", *on, "--no-proof")
            for form in ("html", "slack", "email"):
                outputs[f"digest {form}"] = place.run("digest", *on, "--format", form)
            place.printed("card", *on, "-o", place.folder / "card.html")
            outputs["card page"] = (place.folder / "card.html").read_text()
            outputs["wrong protocol"] = place.run("status", *on, DRIFTLINE_SECURITY_PROTOCOL="SASL_SSL")
            outputs["wrong login"] = place.run(
                "status", *on, DRIFTLINE_SECURITY_PROTOCOL="SASL_PLAINTEXT", DRIFTLINE_SASL_USERNAME="someone"
            )
            outputs["wrong key"] = place.run("check", *on, DRIFTLINE_SNAPSHOT_KEY=f"{ALL[1]},short")
            _visit(worker, pages, "well")
            broker.stop()
            worker.until(lambda: worker.metric("driftline_broker_up") == 0, WITHIN_S, "it sees the outage")
            _visit(worker, pages, "away")
            worker.until_said("Kafka is unavailable", WITHIN_S)
            outputs["status away"] = place.run("status", *on)
            assert worker.stop(WITHIN_S) == 0
            yield Life(worker.log(), pages, outputs, documents)


def _visit(worker: Worker, pages: dict[str, str], when: str) -> None:
    for path in PAGES:
        if (page := worker.page(path)) is not None:
            pages[f"{path} {when}"] = page[1]


def test_every_line_of_the_log_is_json_from_the_start_to_the_stop(life: Life) -> None:
    found = lines(life.log)
    messages = [line["message"] for line in found]
    assert messages[0].startswith("Driftline ")
    for text in ("recovered in", "webhook refused", "Kafka is unavailable", "stopping"):
        assert any(text in message for message in messages), text
    assert not [message for message in messages if message.startswith("[^")], "what Faust logs of itself"
    assert {line["pipeline"] for line in found} == {"cards"}


def test_while_kafka_is_away_no_lag_is_shown_and_pages_say_why(life: Life) -> None:
    assert "driftline_lag{" in life.pages["/metrics well"]
    assert "driftline_lag{" not in life.pages["/metrics away"]
    assert json.loads(life.pages["/health/ready away"])["reasons"] == ["Kafka is unavailable"]


def test_no_secret_is_in_any_output(life: Life) -> None:
    assert '"opened"' in life.outputs["alert"]
    assert "accepted" in life.outputs["control"]
    printed = {f"{name} --json": text for name, text in life.documents.items()}
    seen = {"log": life.log, **life.pages, **life.outputs, **printed}
    assert all(seen.values())
    assert {(name, secret) for name, text in seen.items() for secret in ALL if secret in text} == set()


def test_what_commands_print_for_programs_has_its_published_form(life: Life) -> None:
    found = {name: check(name, text) for name, text in life.documents.items()}
    assert found["control"]["accepted"] == [0]
    assert found["status"][0]["note"]["labels"]["joined"] == ROWS
    assert found["verify"]["verdict"] == "PASS"
    assert found["explain"]["same"]


def test_every_secret_setting_is_set_here() -> None:
    """A setting that is not shown where the settings are is a secret, and belongs into `SECRETS`."""
    hidden = {f"DRIFTLINE_{name.upper()}" for name, field in Settings.model_fields.items() if not field.repr}
    assert hidden <= SECRETS.keys()


def test_an_error_that_no_one_caught_is_a_line_too(place: Place) -> None:
    with start_embedded() as broker:
        on = ("-p", str(place.file), "--bootstrap", broker.bootstrap)
        place.run("topics", "create", *on)
        command = [sys.executable, "-c", BROKEN, "worker", *on, "--web-port", str(free_port())]
        settings = environment(**place.settings, DRIFTLINE_DATA_DIR=str(place.folder))
        done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=WITHIN_S, check=False)
    found = lines(done.stderr)
    assert done.returncode == 1
    assert any("a warning of Python's" in line["message"] for line in found)
    assert any("ZeroDivisionError" in line["message"] for line in found)
    (last,) = [line for line in found if line["message"].startswith("the engine failed: RuntimeError(")]
    assert "Traceback" in last["error"]


@pytest.mark.parametrize("arguments", [["--wrong"], ["--bootstrap", "nowhere"]])
def test_what_a_start_ends_with_is_a_line_too(place: Place, arguments: list[str]) -> None:
    settings = environment(**place.settings)
    done = subprocess.run(
        [*COMMAND, "worker", *arguments], capture_output=True, text=True, env=settings, timeout=WITHIN_S, check=False
    )
    (line,) = lines(done.stderr)
    assert (done.returncode, line["exit_code"], line["level"]) == (2, 2, "ERROR")


def test_a_stop_before_it_began_is_a_line_too(place: Place) -> None:
    command = [sys.executable, "-c", "import os, signal; from driftline.__main__ import run; "
               "import driftline.cli as cli; cli.Commands.invoke = lambda *_: os.kill(os.getpid(), signal.SIGTERM); "
               "run()", "worker"]  # fmt: skip
    settings = environment(**place.settings)
    done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=WITHIN_S, check=False)
    (line,) = lines(done.stderr)
    assert (done.returncode, line["message"]) == (0, "stopped before it began")
