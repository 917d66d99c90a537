"""Locust's web page: our options are in its form, and what is typed there is what runs."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def _served(folder: Path, *words: str) -> Iterator[Web]:
    port = free_ports(1)[0]
    common = ["--web-host", "127.0.0.1", "--web-port", str(port), "--report", str(folder / "report.html"), "ReadWrite"]
    with (folder / "locust.log").open("wb") as output:
        process = subprocess.Popen(
            locust_command(*words, *common), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=REPOSITORY
        )
        try:
            page = Web(port)
            wait_until(page.answers, 40)
            yield page
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def web(three_nodes: ServingCluster, tmp_path: Path) -> Iterator[Web]:
    with _served(tmp_path, "-H", three_nodes.seeds) as page:
        yield page


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


def test_a_senseless_option_in_the_form_is_answered_with_one_line_and_the_page_goes_on(
    web: Web, tmp_path: Path
) -> None:
    told = web.post("/swarm", user_count=1, spawn_rate=1, value_sizes="huge")
    assert not told["success"]
    assert told["message"].startswith("--value-sizes: 'huge' is not NUMBER")
    told = web.post("/swarm", user_count=1, spawn_rate=1, shape="ramp", run_time="")
    assert not told["success"]
    assert told["message"].startswith("--shape ramp needs --run-time")
    told = web.post("/swarm", user_count=1, spawn_rate=1, keys=20, run_time="soon")
    assert not told["success"]
    assert web.post("/swarm", user_count=1, spawn_rate=1, keys=20, run_time="1s")["success"]
    wait_until(lambda: (tmp_path / "report.json").exists(), 40)
    told = web.post("/swarm", user_count=1, spawn_rate=1, keys=20, shape="ramp", run_time="")  # of the run before: none
    assert not told["success"]


def test_when_a_run_is_stopped_its_faults_are_undone(tmp_path: Path) -> None:
    faults, log = tmp_path / "faults.toml", tmp_path / "locust.log"
    faults.write_text('[[fault]]\nat = 0\ndo = "kill"\nnode = "n2"\nfor = 3600\n')
    with _served(tmp_path, "--start-cluster", "--faults", str(faults)) as page:
        assert page.post("/swarm", user_count=1, spawn_rate=1, keys=20)["success"]
        wait_until(lambda: "kill n2" in log.read_text(), 40)
        page.post("/stop")
        wait_until(lambda: "n2 is back" in log.read_text(), 40)
    assert [it["text"] for it in json.loads((tmp_path / "report.json").read_text())["happenings"]] == ["kill n2"]
