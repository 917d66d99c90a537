"""The short load test as a whole: a cluster of its own, a kill in the middle, a verdict, a report that can be looked at."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from browser import opened, pictured
from locust_process import Ran, run_locust

pytestmark = pytest.mark.slow

FAULTS = """
[[fault]]
at = "40%"
do = "kill"
node = "n2"
for = 1
"""
SLO = "get.failed=0,failed<0.1%,lost=0,old=0,wrong=0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loadtest")


@pytest.fixture(scope="module")
def ran(folder: Path) -> Ran:
    """Ten seconds of what ``make loadtest`` does."""
    (folder / "faults.toml").write_text(FAULTS)
    words = ["--start-cluster", "--node-memory", "32MiB", "-u", "10", "-r", "10", "-t", "10s", "--keys", "2000"]
    words += ["--faults", str(folder / "faults.toml"), "--slo", SLO, "--report", str(folder / "report.html")]
    words += ["--csv", str(folder / "locust"), "--json-file", str(folder / "locust")]
    return run_locust(*words, "ReadWrite")


@pytest.fixture(scope="module")
def figures(ran: Ran, folder: Path) -> dict[str, Any]:
    assert ran.code == 0, ran.output
    told: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return told


def test_a_node_is_killed_and_no_read_fails_and_nothing_is_lost(figures: dict[str, Any]) -> None:
    assert figures["operations"] > 500
    assert all(term["held"] for term in figures["slo"])
    assert len(figures["slo"]) == len(SLO.split(","))
    assert figures["facts"]["checked"] == 2000
    assert set(figures["nodes"]) == {"n1", "n2", "n3"}
    assert not figures["notes"]


def test_the_report_knows_of_the_kill_and_of_the_return(figures: dict[str, Any], folder: Path) -> None:
    texts = [it["text"] for it in figures["happenings"]]
    assert texts[0] == "kill n2"
    assert figures["happenings"][0]["failed_reads"] == 0
    html = (folder / "report.html").read_text()
    assert "kill n2</text>" in html


def test_locusts_own_tables_show_every_verb_outcome_and_node_and_agree(figures: dict[str, Any], folder: Path) -> None:
    rows = json.loads((folder / "locust.json").read_text())
    assert {"hit n1", "hit n2", "hit n3", "ok n1"} <= {row["name"] for row in rows}
    counted = Counter[str]()
    for row in rows:
        counted[row["method"]] += row["num_requests"]
    assert counted == {verb: it["operations"] for verb, it in figures["verbs"].items()}
    assert (folder / "locust_stats.csv").read_text().count("hit n1") == 1


def test_the_report_fetches_nothing(figures: dict[str, Any], folder: Path) -> None:
    assert not re.search(r"(src|href)=|url\(|@import|https?://", (folder / "report.html").read_text())


def test_a_browser_draws_every_chart(figures: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    html = opened(folder / "report.html", tmp_path)
    charts = re.findall(r'<svg class="chart".*?</svg>', html, re.DOTALL)
    assert len(charts) >= 8
    for chart in charts:
        assert re.search(r'<path class="(line|area)" d="M[0-9]', chart)
        assert "kill n2" in chart
        assert "NaN" not in chart
    assert html.count('class="tip"') == len(charts)  # the script has run to its end
    assert "nothing was recorded" not in html


@pytest.mark.parametrize(("width", "height"), [(1280, 2400), (500, 3000)])
def test_what_is_drawn_has_colour_all_over(
    figures: dict[str, Any], folder: Path, tmp_path: Path, width: int, height: int
) -> None:
    """Lines and areas are many pixels of the charts' colours: a page without its style, or of empty frames, has none."""
    rows = _rows(pictured(folder / "report.html", tmp_path, width, height))
    coloured = [number for number, row in enumerate(rows) if _coloured(row)]
    assert len(coloured) > len(rows) / 8
    assert max(coloured) > len(rows) / 2


def _rows(png: bytes) -> list[bytes]:
    """Return the rows of an RGB or RGBA picture of 8 bits: only what Chromium writes (RFC 2083)."""
    width, height, depth, kind = int.from_bytes(png[16:20]), int.from_bytes(png[20:24]), png[24], png[25]
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    data, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    raw, stride = zlib.decompress(data), width * size
    rows, before = [], bytes(stride)
    for number in range(height):
        start = number * (stride + 1)
        before = _unfiltered(raw[start], raw[start + 1 : start + 1 + stride], before, size)
        rows.append(bytes(before[place] for place in range(stride) if place % size < 3))
    return rows


def _unfiltered(kind: int, line: bytes, above: bytes, size: int) -> bytes:
    out = bytearray(line)
    for place in range(len(out)):
        left = out[place - size] if place >= size else 0
        up, corner = above[place], above[place - size] if place >= size else 0
        paeth = min((left, up, corner), key=lambda it: abs(left + up - corner - it))
        out[place] = (out[place] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
    return bytes(out)


def _coloured(row: bytes) -> bool:
    return any(max(row[at : at + 3]) - min(row[at : at + 3]) > 40 for at in range(0, len(row), 3))


def test_a_broken_slo_is_exit_code_1_and_named(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    words = ["--start-cluster", "--nodes", "1", "--replicas", "1", "-t", "3s", "--keys", "200"]
    ran = run_locust(*words, "--slo", "lost=0,get.p50<0.1us", "--report", str(report), "ReadMostly")
    assert ran.code == 1, ran.output
    assert "SLO get.p50<0.1us: FAILED" in ran.output
    assert "SLO lost=0: held" in ran.output
    assert "SLO not held: get.p50&lt;0.1us" in report.read_text()


def test_what_real_nodes_evict_is_not_lost(tmp_path: Path) -> None:
    """Half of the keys fit, and most of those that don't have gone before the users begin."""
    words = ["--start-cluster", "--nodes", "2", "--node-memory", "16MiB", "-t", "3s", "-u", "5", "-r", "5"]
    words += ["--keys", "24000", "--zipf", "0", "--value-sizes", "1000", "--report", str(tmp_path / "report.html")]
    ran = run_locust(*words, "--slo", "lost=0,get.misses>100", "ReadWrite")
    assert ran.code == 0, ran.output
    assert not json.loads((tmp_path / "report.json").read_text())["facts"].get("unexplained")
