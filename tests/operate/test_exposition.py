"""What Prometheus scrapes is named as its own linter asks, and says whose it is and what runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from driftline import __version__
from driftline.operate.exposition import Exposition
from tests.support.exposed import all_families, exposed


def test_what_runs_is_in_the_labels_of_one_sample() -> None:
    page = Exposition("p", []).page().decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    (build,) = families["driftline_build_info"].samples
    assert build.value == 1
    assert build.labels.keys() == {"pipeline", "version", "river", "python"}
    assert build.labels["version"] == __version__
    assert families["process_cpu_seconds"].samples[0].labels == {"pipeline": "p"}


class Hostile(Collector):
    """A family with a feature's value in a label, as a stranger chose it."""

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("driftline_metric_by", "By segment.", labels=["part"])
        family.add_metric(['\x1b[2J\0"} 1\n# HELP evil'], 1.0)
        yield family


def test_a_label_commands_no_terminal_and_begins_no_line() -> None:
    page = Exposition("p", [Hostile()]).page().decode()
    assert page.replace("\n", "").isprintable()
    (family,) = [one for one in text_string_to_metric_families(page) if one.name == "driftline_metric_by"]
    assert family.samples[0].labels["part"] == '\\u001b[2J\\u0000"} 1\\u000a# HELP evil'


UNITS = {"ms", "milliseconds", "minutes", "hours", "days", "kb", "mb", "kilobytes", "percent"}


async def test_every_family_is_named_and_described_as_prometheus_asks() -> None:
    """The rules of its linter that can be broken here; the linter itself has the last word below."""
    found = await exposed()
    for name, family in found.families.items():
        assert family.documentation.strip().endswith("."), name
        words = name.split("_")
        assert name == name.lower()
        assert "" not in words
        assert not {*words} & (UNITS | {family.type}), name
        assert words[-1] not in ("count", "sum", "bucket", "total"), name
        assert "quantile" not in found.labels[name], name
        assert ("le" in found.labels[name]) == (family.type == "histogram"), name


def test_promtool_accepts_the_page() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here; it comes with Prometheus (Debian: apt-get install prometheus)")
    for page in all_families().pages:
        done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")
