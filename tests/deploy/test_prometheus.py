"""Prometheus by the files of deploy/ on live nodes: it scrapes them, every rule can be evaluated, and a dead node is told of."""

import json
import shutil
import subprocess
import sys
import urllib.request
from os import getpid

import pytest
import yaml
from deploy_files import alerts, documents
from integration.conftest import free_port, started_processes
from polling import wait_until

from kvcache.cluster import launcher

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")

SECRET = "what-prometheus-shows"
PATIENCE = 40.0
"""Prometheus itself takes some seconds to start where many things run."""


class Prometheus:
    """The program, with its data in ``folder``."""

    def __init__(self, folder):
        self.address = f"127.0.0.1:{free_port()}"
        self.log = (folder / "log").open("w+b")
        options = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "data",
            "web.listen-address": self.address,
        }
        command = [shutil.which("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", launcher.__file__, str(getpid()), *command],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, what):
        """Return what its API answers; None while it does not."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/{what}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            assert self.process.poll() is None, self.told()
            return None

    def told(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def healths(self):
        """Return the state of each target."""
        targets = (self.ask("targets") or {}).get("activeTargets", [])
        return {target["labels"]["instance"]: target["health"] for target in targets}

    def rules(self):
        return [rule for group in (self.ask("rules") or {"groups": []})["groups"] for rule in group["rules"]]

    def raised(self):
        """Return the alerts that are pending or firing, by name and instance."""
        found = (self.ask("alerts") or {"alerts": []})["alerts"]
        return {(it["labels"]["alertname"], it["labels"].get("instance")): it["state"] for it in found}

    def stop(self):
        self.process.kill()
        self.process.wait(20)
        self.log.close()


@pytest.fixture
def nodes(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(f"client {SECRET}\nnode a-secret-between-nodes\nadmin a-secret-of-operators\n")
    secret.chmod(0o600)
    with started_processes() as start:
        started = [start("--secret-file", str(secret)) for _ in range(2)]
        yield [node.serving() for node in started]


@pytest.fixture
def prometheus(tmp_path, nodes):
    """Prometheus by the files of deploy/, but with these nodes as targets, and quick."""
    (config,) = documents("prometheus/prometheus.yml")
    config["global"] = dict.fromkeys(config["global"], "250ms")
    (job,) = config["scrape_configs"]
    (tmp_path / "metrics").write_text(SECRET)
    job["authorization"]["credentials_file"] = str(tmp_path / "metrics")
    job["static_configs"] = [{"targets": [node.address for node in nodes]}]
    (rules,) = documents("prometheus/alerts.yml")
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["for"] = "500ms"
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    running = Prometheus(tmp_path)
    yield running
    running.stop()


def test_a_dead_node_is_told_of(prometheus, nodes):
    alive, dying = nodes
    wait_until(lambda: prometheus.healths() == {node.address: "up" for node in nodes}, PATIENCE)
    wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules() or [{"health": ""}]), PATIENCE)
    assert [rule["name"] for rule in prometheus.rules()] == [rule["alert"] for rule in alerts()]
    assert not any(alert == "KvcacheNodeDown" for alert, _ in prometheus.raised())
    dying.kill()
    wait_until(lambda: prometheus.raised().get(("KvcacheNodeDown", dying.address)) == "firing", PATIENCE)
    assert ("KvcacheNodeDown", alive.address) not in prometheus.raised()
