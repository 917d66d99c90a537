"""Charts and their scales, as text and numbers; how they look is tested in a browser (``test_report_in_a_browser``)."""

from __future__ import annotations

import json
import math
import re
from html import unescape
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.report.chart import BarChart, Chart, Mark, Series, bar_chart, line_chart
from loadtests.report.page import Card, cards, page, section, table
from loadtests.report.scale import bytes_text, count_text, linear, logarithmic, milliseconds_text, share_text

_NUMBERS = st.floats(min_value=1e-6, max_value=1e12)


@given(_NUMBERS, _NUMBERS)
def test_a_linear_scale_holds_its_data_and_has_a_few_round_ticks(one: float, other: float) -> None:
    scale = linear(min(one, other), max(one, other))
    assert scale.low <= min(one, other) * (1 + 1e-6)
    assert scale.high >= max(one, other) * (1 - 1e-6)
    assert 2 <= len(scale.ticks) <= 12
    assert list(scale.ticks) == sorted(scale.ticks)


@given(_NUMBERS, _NUMBERS)
def test_a_logarithmic_scale_holds_its_data_and_is_even_in_ratios(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    scale = logarithmic(low, high)
    assert scale.low <= low * 1.01
    assert scale.high >= high * 0.99
    middle = math.sqrt(scale.low * scale.high)
    assert scale.place(middle) == pytest.approx(0.5)


def test_numbers_are_written_in_the_unit_that_fits() -> None:
    assert [count_text(it) for it in (0, 950, 12_000, 1_500_000)] == ["0", "950", "12k", "1.5M"]
    assert [milliseconds_text(it) for it in (0.25, 20, 1500)] == ["250 µs", "20 ms", "1.5 s"]
    assert [bytes_text(it) for it in (100, 2048, 3 << 20)] == ["100 B", "2 KiB", "3 MiB"]
    assert share_text(0.123) == "12.3 %"


def _chart(**options: object) -> Chart:
    lines = [Series("get", [(0, 10), (1, math.nan), (2, 30)]), Series("<set>", [(0, 5), (1, 6), (2, 7)])]
    return Chart("Rate", "seconds", "operations/s", lines, **options)  # type: ignore[arg-type]


def _svg(html: str) -> ElementTree.Element:
    found = re.search(r'<svg class="chart".*?</svg>', html, re.DOTALL)
    assert found
    return ElementTree.fromstring(found[0])


def test_a_gap_in_a_line_is_not_drawn_over() -> None:
    paths = [path.attrib["d"] for path in _svg(line_chart(_chart())).iter("path")]
    assert paths[0].count("M") == 1  # <set>, which has no gap, is drawn first
    assert paths[1].count("M") == 2


def test_marks_are_vertical_lines_with_their_words() -> None:
    svg = _svg(line_chart(_chart(marks=[Mark(1, "kill n2"), Mark(2, "n2 is up", good=True)])))
    groups = {group.attrib["class"]: group for group in svg.iter("g")}
    line = groups["fault"].find("line")
    assert line is not None
    assert line.attrib["x1"] == line.attrib["x2"]
    assert [text.text for text in svg.iter("text") if text.text in ("kill n2", "n2 is up")] == ["kill n2", "n2 is up"]


def test_the_values_for_the_tooltip_are_those_of_the_series_before_they_are_stacked() -> None:
    html = line_chart(_chart(filled=True))
    data = json.loads(unescape(re.search(r"data-readings='(.*?)'", html)[1]))  # type: ignore[index]
    assert data["names"] == ["get", "<set>"]
    assert [row[2:] for row in data["rows"]] == [["10", "5"], ["", "6"], ["30", "7"]]


def test_axes_name_their_units_and_a_log_axis_has_even_decades() -> None:
    lines = [Series("p99", [(0, 0.5), (1, 50)])]
    svg = _svg(line_chart(Chart("Latency", "s", "ms", lines, log_y=True, y_text=milliseconds_text)))
    texts = [text.text for text in svg.iter("text")]
    assert {"ms", "s", "1 ms", "10 ms"} <= set(texts)


def test_bars_have_a_title_each_and_none_for_what_was_not_measured() -> None:
    html = bar_chart(BarChart("Side by side", "operations/s", ["get", "set"], [("a", [10, 20]), ("b", [5, math.nan])]))
    assert [title.text for title in _svg(html).iter("title")] == ["get, a: 10", "get, b: 5", "set, a: 20"]


@pytest.mark.parametrize("html", [line_chart(Chart("x", "", "", [])), bar_chart(BarChart("x", "", [], []))])
def test_a_chart_without_data_says_so(html: str) -> None:
    assert "nothing was recorded" in html


def test_a_page_is_whole_fetches_nothing_and_escapes_what_it_is_given() -> None:
    parts = [
        cards([Card("1 < 2", "figures", "good")]),
        section("Charts", line_chart(_chart()), columns=True),
        table(["term", "held"], [["<get>", "no"]], ["bad"]),
    ]
    html = page("Load & test", "today", parts, verdict=("failed", "bad"))
    assert html.startswith("<!doctype html>")
    assert "Load &amp; test" in html
    assert "&lt;get&gt;" in html
    assert not re.search(r"(src|href)=|url\(|@import|https?://", html)
