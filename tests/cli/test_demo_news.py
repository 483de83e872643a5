"""`driftline demo --case recommend --write`: a log that `driftline backtest` reads."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from driftline.cli import demo_news, main
from driftline.codec.decode import Decoder
from driftline.config import read_pipeline
from driftline.core.record import Event, Label, Source


def test_what_it_writes_is_what_its_pipeline_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_news, "REQUESTS", 50)
    demo_news.demo("embedded", tmp_path, False)
    pipeline = read_pipeline((tmp_path / "pipeline.yaml").read_text())
    decoder = Decoder(pipeline)
    lines = {name: (tmp_path / f"{name}.jsonl").read_bytes().splitlines() for name in ("requests", "clicks")}
    events = [decoder.event(Source("e", 0, at, 1, None, line)) for at, line in enumerate(lines["requests"])]
    labels = [decoder.label(Source("l", 0, at, 1, None, line)) for at, line in enumerate(lines["clicks"])]
    assert len(events) == 50
    assert {type(one) for one in events} == {Event}
    assert {type(one) for one in labels} == {Label}
    shown = orjson.loads(lines["requests"][0])["shown"]
    assert [one["propensity"] for one in shown] == [0.1] * 3
    assert {orjson.loads(line)["request_id"] for line in lines["clicks"]} <= {
        one.event_id for one in events if isinstance(one, Event)
    }


def test_a_report_does_not_split_rewards_by_their_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests without a reward earned nothing: what they would have earned by delay is nobody's figure."""
    monkeypatch.setattr(demo_news, "REQUESTS", 400)
    demo_news.demo("embedded", tmp_path, False)
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("requests", "clicks")}
    arguments = ["-p", str(tmp_path / "pipeline.yaml"), "--events", files["requests"], "--labels", files["clicks"]]
    done = CliRunner().invoke(main, ["backtest", *arguments, "-o", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Labels by delay" in page
    assert "by label delay" not in page
