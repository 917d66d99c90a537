"""Alerts and dashboard ask for what nodes really export, and whoever is woken finds what to do."""

import re
import urllib.request

import pytest
from deploy_files import DEPLOY, alerts, dashboard, documents
from integration.conftest import NodeProcess

from kvcache_client import Client

_NAME = re.compile(r"\b(?:kvcache|process)_[a-z0-9_]+\b")


def queries() -> dict[str, str]:
    """Return every query with where it stands."""
    found = {rule["alert"]: rule["expr"] for rule in alerts()}
    board = dashboard()
    for panel in board["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    for mark in board["annotations"]["list"]:
        found[mark["name"]] = mark["expr"]
    return found


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Return the names of all samples that a real node gives to Prometheus."""
    node = NodeProcess()
    try:
        node.serving()
        with Client(node.address) as cache:  # the histograms of a verb begin with its first request
            cache.set("key", "value")
        with urllib.request.urlopen(f"http://127.0.0.1:{node.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    finally:
        node.kill()
    return {re.split(r"[{ ]", line)[0] for line in lines if line and not line.startswith("#")}


def test_every_metric_that_is_asked_for_exists(exported):
    unknown = {where: set(_NAME.findall(query)) - exported for where, query in queries().items()}
    assert {where: names for where, names in unknown.items() if names} == {}
    assert sum(len(_NAME.findall(query)) for query in queries().values()) > 40


def test_every_alert_has_a_section_that_says_what_to_do():
    runbook = (DEPLOY / "README.md").read_text()
    for rule in alerts():
        assert f"### {rule['alert']}\n" in runbook
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("page", "warn")
    _, _, told = runbook.partition("## Alerts\n")
    assert re.findall(r"^### (.+)$", told, re.MULTILINE) == [rule["alert"] for rule in alerts()]


def test_prometheus_takes_its_rules_and_its_configuration(run_tool):
    assert f"{len(alerts())} rules found" in run_tool("promtool", "check", "rules", "prometheus/alerts.yml")
    run_tool("promtool", "check", "config", "--syntax-only", "prometheus/prometheus.yml")


def test_prometheus_takes_every_query_of_the_dashboard(run_tool, tmp_path):
    rules = "".join(
        f"  - record: query:{number}\n    expr: {expr!r}\n" for number, expr in enumerate(queries().values())
    )
    file = tmp_path / "queries.yml"
    file.write_text(f"groups:\n- name: queries\n  rules:\n{rules}")
    run_tool("promtool", "check", "rules", str(file))


def test_the_dashboard_is_where_grafana_looks_and_asks_the_source_that_is_there():
    (provider,) = documents("grafana/provisioning/dashboards/kvcache.yaml")
    (sources,) = documents("grafana/provisioning/datasources/prometheus.yaml")
    (compose,) = documents("compose.yaml")
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["providers"][0]["options"]["path"]
    uids = {target["datasource"]["uid"] for panel in dashboard()["panels"] for target in panel["targets"]}
    assert uids == {source["uid"] for source in sources["datasources"]}
