"""Dashboard and alert rules ask for what a worker exposes, and lead to a section of the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from driftline.core.pipeline import AlertKind
from tests.support.exposed import Exposed, all_families

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
GRAFANA = DEPLOY / "grafana"
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
OF_PROMETHEUS = {"instance", "job"}  # labels that a scrape adds
WORD = r"[a-zA-Z_][a-zA-Z0-9_]*"
FUNCTIONS = {
    "absent", "and", "by", "count", "deriv", "histogram_quantile", "increase", "label_values", "max", "min", "rate",
    "sum",
}  # fmt: skip


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "rules.yml").read_text("utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    (file,) = (GRAFANA / "dashboards").glob("*.json")
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def queries() -> Iterator[str]:
    """Each expression that Prometheus is asked."""
    yield from (rule["expr"] for rule in rules())
    shown = dashboard()
    yield from (target["expr"] for panel in shown["panels"] for target in panel.get("targets", ()))
    yield from (one["expr"] for one in shown["annotations"]["list"])
    yield from (one["query"]["query"] for one in shown["templating"]["list"] if one["type"] == "query")


def asked(query: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that a query names."""
    bare = re.sub(r'"[^"]*"', '""', query)
    labels = {
        name for part in re.findall(r"\{([^}]*)\}", bare) for name in re.findall(rf"({WORD})\s*(?:=~|!~|!=|=)", part)
    }
    for part in re.findall(r"\bby \(([^)]*)\)", bare):
        labels |= {*re.findall(WORD, part)}
    if (listed := re.search(rf"label_values\(.*, ({WORD})\)", bare)) is not None:
        labels.add(listed[1])
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", bare)
    words = {*re.findall(rf"(?<![\w.]){WORD}", rest)} - FUNCTIONS - labels
    return words, labels


def family_of(name: str, found: Exposed) -> str:
    """The family that has samples of this name; fails where none has."""
    for end in ("", "_total", *OF_HISTOGRAMS):
        family = found.families.get(name.removesuffix(end)) if name.endswith(end) else None
        if family is not None:
            kind = {"_total": "counter", "": "gauge"}.get(end, "histogram")
            assert family.type == kind, f"{name} is a {family.type}"
            return family.name
    raise AssertionError(f"no worker exposes {name}")


def test_every_query_names_metrics_and_labels_that_exist() -> None:
    found = all_families()
    for query in queries():
        metrics, labels = asked(query)
        assert metrics, query
        known = OF_PROMETHEUS.union(*(found.labels[family_of(name, found)] for name in metrics))
        assert labels <= known, f"{query}: {labels - known}"


def test_a_query_of_what_does_not_exist_is_found() -> None:
    """The check above can fail."""
    assert asked('sum by (pipeline, le) (rate(a_bucket{pipeline=~"x", kind!="y"}[5m])) > 0.5 and b == 1') == (
        {"a_bucket", "b"},
        {"pipeline", "le", "kind"},
    )
    with pytest.raises(AssertionError, match="exposes driftline_scores_totals"):
        family_of("driftline_scores_totals", all_families())
    with pytest.raises(AssertionError, match="is a counter"):
        family_of("driftline_scores", all_families())


def test_texts_use_labels_that_the_query_keeps() -> None:
    found = all_families()
    for rule in rules():
        metrics, _ = asked(rule["expr"])
        grouped = set(re.findall(WORD, " ".join(re.findall(r"\bby \(([^)]*)\)", rule["expr"]))))
        kept = grouped or OF_PROMETHEUS.union(*(found.labels[family_of(name, found)] for name in metrics))
        texts = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= kept, rule["alert"]
        if "absent" not in rule["expr"]:
            assert "pipeline" in kept
            assert "$labels.pipeline" in texts


def test_every_rule_leads_to_a_section_of_the_runbook() -> None:
    titles = re.findall(r"^##+ (.+)$", (ROOT / "docs" / "runbook.md").read_text("utf-8"), re.MULTILINE)
    sections = {title.lower().replace(" ", "-") for title in titles}
    for rule in rules():
        address, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert address.endswith("/runbook")
        asked_for = {section}
        if "$labels.kind" in section:
            asked_for = {kind.replace("_", "-") for kind in get_args(AlertKind)}
        assert asked_for <= sections, rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


def test_the_dashboard_is_provisioned_with_the_prometheus_that_scrapes() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.kafka.yml").read_text("utf-8"))["services"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in compose["grafana"]["volumes"]}
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/driftline.yml").read_text("utf-8"))["providers"]
    assert source["url"] == f"http://prometheus:{compose['prometheus']['ports'][0].rpartition(':')[2]}"
    assert ROOT / mounted[provider["options"]["path"]] == GRAFANA / "dashboards"
    assert ROOT / mounted["/etc/grafana/provisioning"] == GRAFANA / "provisioning"
    home = compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (GRAFANA / "dashboards" / Path(home).name).is_file()
    shown = dashboard()
    assert {panel["datasource"]["uid"] for panel in shown["panels"] if "targets" in panel} == {"${datasource}"}
    assert shown["templating"]["list"][0]["current"]["value"] == source["uid"]
    numbers = [panel["id"] for panel in shown["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_prometheus_reads_the_rules() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.kafka.yml").read_text("utf-8"))["services"]
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
    targets = {volume.split(":")[1] for volume in compose["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in config["rule_files"]} < targets


def test_promtool_accepts_rules_and_config() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here; it comes with Prometheus (Debian: apt-get install prometheus)")
    for arguments in (["rules", "rules.yml"], ["config", "--syntax-only", "prometheus.yml"]):
        done = subprocess.run([promtool, "check", *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
