"""Locust's web page: our options are in its form, and what is typed there is what runs."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from locust_process import REPOSITORY, locust_command
from polling import wait_until
from serving import ServingCluster

from loadtests.server_process import free_ports

pytestmark = pytest.mark.slow


class Web:
    """A Locust that waits for somebody to press Start."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def post(self, path: str, **fields: object) -> dict[str, Any]:
        data = urllib.parse.urlencode(fields).encode()
        with urllib.request.urlopen(self._url + path, data, timeout=30) as answer:
            told: dict[str, Any] = json.loads(answer.read())
            return told

    def answers(self) -> bool:
        with suppress(OSError):
            return bool(self.get("/"))
        return False

    def rows(self) -> dict[str, int]:
        stats = json.loads(self.get("/stats/requests"))["stats"]
        return {f"{row['method']} {row['name']}": row["num_requests"] for row in stats}


@pytest.fixture
def web(three_nodes: ServingCluster, tmp_path: Path) -> Iterator[Web]:
    port = free_ports(1)[0]
    words = ["--web-host", "127.0.0.1", "--web-port", str(port), "-H", three_nodes.seeds]
    words += ["--report", str(tmp_path / "report.html"), "ReadWrite"]
    with (tmp_path / "locust.log").open("wb") as output:
        process = subprocess.Popen(
            locust_command(*words), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=REPOSITORY
        )
        try:
            page = Web(port)
            wait_until(page.answers, 40)
            yield page
        finally:
            process.kill()
            process.wait()


def test_the_form_has_our_options_and_a_run_follows_them(web: Web, tmp_path: Path) -> None:
    form = web.get("/")
    assert all(option in form for option in ("value_sizes", "zipf", "ttls", "rate", "shape", "slo", "hot_keys"))
    assert "start_cluster" not in form  # what is started before the page is there can't be chosen on it
    told = web.post("/swarm", user_count=2, spawn_rate=2, keys=77, value_sizes="300", zipf="0.5")
    assert told["success"], told
    wait_until(lambda: any(name.startswith("get hit") and count > 20 for name, count in web.rows().items()), 40)
    web.post("/stop")
    wait_until(lambda: (tmp_path / "report.json").exists(), 40)
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["settings"]["keys"].startswith("77 of each process, Zipf 0.5")
    assert figures["settings"]["value sizes"] == "300 bytes"
    assert figures["facts"]["checked"] == 77


def test_a_shape_can_be_chosen_in_the_form(web: Web, tmp_path: Path) -> None:
    told = web.post("/swarm", user_count=2, spawn_rate=2, keys=20, shape="spike", run_time="4s")
    assert "shape class 'Spike'" in told["message"]
    wait_until(lambda: (tmp_path / "report.json").exists(), 40)
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["settings"]["arrivals"] == "closed, shape spike"


def test_a_senseless_option_in_the_form_ends_the_run_with_one_line(web: Web, tmp_path: Path) -> None:
    web.post("/swarm", user_count=1, spawn_rate=1, value_sizes="huge")
    wait_until(lambda: "--value-sizes: 'huge' is not NUMBER" in (tmp_path / "locust.log").read_text(), 40)
    assert not (tmp_path / "report.json").exists()
