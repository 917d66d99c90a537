"""Charts: series of points, or groups of bars, to inline SVG.

Here lives drawing. Never here: what the numbers mean, the page around (``page``), or where ticks stand (``scale``).

Colours are names (``--c0`` ...) that the page gives values for light, dark and print. No chart depends on colour alone: lines
differ in their dashes, the legend shows both. What is drawn can be read by a screen reader (title, description) and by the
page's script, which shows the values under the pointer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from loadtests.report.frame import (
    BOTTOM,
    COLOURS,
    DASHES,
    HEIGHT,
    LEFT,
    TOP,
    Frame,
    Mark,
    draw_marks,
    figure,
    key,
    svg,
    x_axis,
    y_axis,
    y_scale,
)
from loadtests.report.scale import Format, Scale, count_text, linear, logarithmic

__all__ = ["COLOURS", "BarChart", "Chart", "Mark", "Series", "bar_chart", "line_chart"]


@dataclass(frozen=True, slots=True)
class Series:
    """A line. A point whose y is NaN is a gap. ``colour`` is its number among ``COLOURS``, else its place in the chart."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A line chart. ``log_y`` is for latencies; axis labels name the unit."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    log_x: bool = False
    log_y: bool = False
    filled: bool = False
    """Whether series are stacked areas: parts of a whole."""
    x_text: Format = count_text
    y_text: Format = count_text
    x_ends: tuple[float, float] | None = None
    """Where the x axis begins and ends; None is at the data."""
    y_from: float | None = 0.0
    """Where a linear y axis begins; None is at the data."""
    y_to: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars side by side in groups: ``series`` are (name, one value for each group); NaN is none."""

    title: str
    y_label: str
    groups: Sequence[str]
    series: Sequence[tuple[str, Sequence[float]]]
    log_y: bool = False
    y_text: Format = count_text
    note: str = ""


def line_chart(chart: Chart) -> str:
    """Return the chart as an HTML figure."""
    lines = _stacked(chart.series) if chart.filled else list(chart.series)
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points if not math.isnan(y)]
    if not xs or not ys:
        return figure(chart.title, '<p class="nothing">nothing was recorded</p>', "", chart.note)
    frame = Frame(_x_scale(chart, xs), y_scale(ys, log=chart.log_y, low=chart.y_from, high=chart.y_to))
    parts = [
        *y_axis(frame, chart.y_label, chart.y_text),
        *x_axis(frame, chart.x_label, chart.x_text),
        *_lines(frame, chart, lines),
        *draw_marks(frame, chart.marks),
        f'<line class="cross" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
    ]
    legend = "".join(
        key(line.name, _colour(chart.series, at), 0 if chart.filled else at) for at, line in enumerate(chart.series)
    )
    return figure(chart.title, svg(chart.title, parts, _readings(frame, chart)), legend, chart.note)


def bar_chart(chart: BarChart) -> str:
    """Return the chart as an HTML figure."""
    values = [value for _, row in chart.series for value in row if not math.isnan(value)]
    if not values or not chart.groups:
        return figure(chart.title, '<p class="nothing">nothing was recorded</p>', "", chart.note)
    frame = Frame(Scale(0, len(chart.groups), ()), y_scale(values, log=chart.log_y, low=0.0, high=None))
    parts = [*y_axis(frame, chart.y_label, chart.y_text), *_bars(frame, chart)]
    legend = "".join(key(name, at % COLOURS, 0) for at, (name, _) in enumerate(chart.series))
    return figure(chart.title, svg(chart.title, parts, None), legend, chart.note)


def _bars(frame: Frame, chart: BarChart) -> Iterator[str]:
    slot = frame.width / len(chart.groups)
    width = slot * 0.8 / len(chart.series)
    floor = HEIGHT - BOTTOM
    for place, group in enumerate(chart.groups):
        left = LEFT + slot * (place + 0.1)
        yield f'<text class="tick" x="{left + slot * 0.4:.1f}" y="{floor + 18:.1f}" text-anchor="middle">{escape(group)}</text>'
        for at, (name, row) in enumerate(chart.series):
            if math.isnan(row[place]):
                continue
            top, x = frame.down(row[place]), left + at * width
            text = chart.y_text(row[place])
            yield (
                f'<rect class="bar" x="{x:.1f}" y="{top:.1f}" width="{width * 0.92:.1f}" height="{max(floor - top, 0.5):.1f}"'
                f' style="fill:var(--c{at % COLOURS})"><title>{escape(f"{group}, {name}: {text}")}</title></rect>'
                f'<text class="value" x="{x + width * 0.46:.1f}" y="{top - 4:.1f}" text-anchor="middle">{escape(text)}</text>'
            )


def _x_scale(chart: Chart, xs: Sequence[float]) -> Scale:
    if chart.log_x:
        return logarithmic(min(xs), max(xs))
    low, high = chart.x_ends or (min(xs), max(xs))
    high = max(high, low + 1e-9)
    scale = linear(low, high, ticks=6)  # the line goes from edge to edge; ticks stand at round numbers
    return Scale(low, high, tuple(tick for tick in scale.ticks if low <= tick <= high))


def _line(frame: Frame, line: Series, colour: int, at: int) -> str:
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if math.isnan(y):
            runs.append([])
        else:
            runs[-1].append(f"{frame.across(x):.1f},{frame.down(y):.1f}")
    path = "".join("M" + "L".join(run if len(run) > 1 else run * 2) for run in runs if run)
    dash = DASHES[at % len(DASHES)]
    return f'<path class="line" d="{path}" style="stroke:var(--c{colour})" stroke-dasharray="{dash}"/>'


def _area(frame: Frame, above: Series, below: Series | None, colour: int) -> str:
    under = dict(below.points) if below else {}
    top = [f"{frame.across(x):.1f},{frame.down(y):.1f}" for x, y in above.points]
    base = [f"{frame.across(x):.1f},{frame.down(under.get(x, 0.0)):.1f}" for x, _ in reversed(above.points)]
    return f'<path class="area" d="M{"L".join(top + base)}Z" style="fill:var(--c{colour})"/>'


def _lines(frame: Frame, chart: Chart, lines: Sequence[Series]) -> Iterator[str]:
    for at in reversed(range(len(lines))):  # the first series lies on top
        colour = _colour(chart.series, at)
        if chart.filled:
            yield _area(frame, lines[at], lines[at - 1] if at else None, colour)
        else:
            yield _line(frame, lines[at], colour, at)


def _stacked(series: Sequence[Series]) -> list[Series]:
    height: dict[float, float] = {}
    stacked = []
    for line in series:
        points = []
        for x, y in line.points:
            height[x] = height.get(x, 0.0) + (0.0 if math.isnan(y) else y)
            points.append((x, height[x]))
        stacked.append(Series(line.name, points, line.colour))
    return stacked


def _colour(series: Sequence[Series], at: int) -> int:
    chosen = series[at].colour
    return (at if chosen is None else chosen) % COLOURS


def _readings(frame: Frame, chart: Chart) -> str:
    """Return what the page's script shows under the pointer: for each x its place, its text, and each series' value."""
    table: dict[float, list[str]] = {}
    for at, line in enumerate(chart.series):
        for x, y in line.points:
            row = table.setdefault(x, [""] * len(chart.series))
            row[at] = "" if math.isnan(y) else chart.y_text(y)
    rows = [[round(frame.across(x), 1), f"{chart.x_text(x)}", *row] for x, row in sorted(table.items())]
    return json.dumps({"names": [line.name for line in chart.series], "rows": rows}, separators=(",", ":"))
