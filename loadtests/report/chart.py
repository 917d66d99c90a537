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
from dataclasses import dataclass, field
from html import escape
from typing import Final

from loadtests.report.scale import Format, Scale, count_text, linear, logarithmic

__all__ = ["COLOURS", "BarChart", "Chart", "Mark", "Series", "bar_chart", "line_chart"]

COLOURS: Final = 8
_WIDTH: Final = 720.0
_HEIGHT: Final = 316.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 22.0, 42.0, 48.0
_DASHES: Final = ("", "7 3", "2 3", "10 3 2 3")


@dataclass(frozen=True, slots=True)
class Series:
    """A line. A point whose y is NaN is a gap. ``colour`` is its number among ``COLOURS``, else its place in the chart."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at ``at`` on the x axis: a vertical line with a word. ``good`` if it ended trouble."""

    at: float
    text: str
    good: bool = False


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


@dataclass(frozen=True, slots=True)
class _Frame:
    """The space between the axes."""

    x: Scale
    y: Scale
    width: float = field(default=_WIDTH - _LEFT - _RIGHT)
    height: float = field(default=_HEIGHT - _TOP - _BOTTOM)

    def across(self, value: float) -> float:
        return _LEFT + self.width * self.x.place(value)

    def down(self, value: float) -> float:
        return _TOP + self.height * (1 - self.y.place(value))


def line_chart(chart: Chart) -> str:
    """Return the chart as an HTML figure."""
    lines = _stacked(chart.series) if chart.filled else list(chart.series)
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points if not math.isnan(y)]
    if not xs or not ys:
        return _figure(chart.title, '<p class="nothing">nothing was recorded</p>', "", chart.note)
    frame = _Frame(_x_scale(chart, xs), _y_scale(ys, log=chart.log_y, low=chart.y_from, high=chart.y_to))
    parts = [
        *_y_axis(frame, chart.y_label, chart.y_text),
        *_x_axis(frame, chart.x_label, chart.x_text),
        *_lines(frame, chart, lines),
        *_marks(frame, chart.marks),
        f'<line class="cross" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>',
    ]
    legend = "".join(
        _key(line.name, _colour(chart.series, at), 0 if chart.filled else at) for at, line in enumerate(chart.series)
    )
    return _figure(chart.title, _svg(chart.title, parts, _readings(frame, chart)), legend, chart.note)


def bar_chart(chart: BarChart) -> str:
    """Return the chart as an HTML figure."""
    values = [value for _, row in chart.series for value in row if not math.isnan(value)]
    if not values or not chart.groups:
        return _figure(chart.title, '<p class="nothing">nothing was recorded</p>', "", chart.note)
    frame = _Frame(Scale(0, len(chart.groups), ()), _y_scale(values, log=chart.log_y, low=0.0, high=None))
    parts = [*_y_axis(frame, chart.y_label, chart.y_text), *_bars(frame, chart)]
    legend = "".join(_key(name, at % COLOURS, 0) for at, (name, _) in enumerate(chart.series))
    return _figure(chart.title, _svg(chart.title, parts, None), legend, chart.note)


def _bars(frame: _Frame, chart: BarChart) -> Iterator[str]:
    slot = frame.width / len(chart.groups)
    width = slot * 0.8 / len(chart.series)
    floor = _HEIGHT - _BOTTOM
    for place, group in enumerate(chart.groups):
        left = _LEFT + slot * (place + 0.1)
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


def _y_scale(ys: Sequence[float], *, log: bool, low: float | None, high: float | None) -> Scale:
    if log:
        above = [y for y in ys if y > 0] or [1.0]
        return logarithmic(min(above), max(above))
    return linear(min(ys) if low is None else low, max(ys) if high is None else high, ticks=4)


def _y_axis(frame: _Frame, label: str, text: Format) -> Iterator[str]:
    for tick in frame.y.ticks:
        y = frame.down(tick)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text(tick))}</text>'
    yield f'<text class="axis" x="4" y="14">{escape(label)}</text>'


def _x_axis(frame: _Frame, label: str, text: Format) -> Iterator[str]:
    floor = _HEIGHT - _BOTTOM
    yield f'<line class="floor" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>'
    for tick in frame.x.ticks:
        x = frame.across(tick)
        yield f'<line class="floor" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{floor + 19}" text-anchor="middle">{escape(text(tick))}</text>'
    yield f'<text class="axis" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{escape(label)}</text>'


def _line(frame: _Frame, line: Series, colour: int, at: int) -> str:
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if math.isnan(y):
            runs.append([])
        else:
            runs[-1].append(f"{frame.across(x):.1f},{frame.down(y):.1f}")
    path = "".join("M" + "L".join(run if len(run) > 1 else run * 2) for run in runs if run)
    dash = _DASHES[at % len(_DASHES)]
    return f'<path class="line" d="{path}" style="stroke:var(--c{colour})" stroke-dasharray="{dash}"/>'


def _area(frame: _Frame, above: Series, below: Series | None, colour: int) -> str:
    under = dict(below.points) if below else {}
    top = [f"{frame.across(x):.1f},{frame.down(y):.1f}" for x, y in above.points]
    base = [f"{frame.across(x):.1f},{frame.down(under.get(x, 0.0)):.1f}" for x, _ in reversed(above.points)]
    return f'<path class="area" d="M{"L".join(top + base)}Z" style="fill:var(--c{colour})"/>'


def _lines(frame: _Frame, chart: Chart, lines: Sequence[Series]) -> Iterator[str]:
    for at in reversed(range(len(lines))):  # the first series lies on top
        colour = _colour(chart.series, at)
        if chart.filled:
            yield _area(frame, lines[at], lines[at - 1] if at else None, colour)
        else:
            yield _line(frame, lines[at], colour, at)


def _marks(frame: _Frame, marks: Sequence[Mark]) -> Iterator[str]:
    for number, mark in enumerate(sorted(marks, key=lambda mark: mark.at)):
        x = frame.across(mark.at)
        kind = "healed" if mark.good else "fault"
        end = x > _WIDTH * 0.75
        place, anchor = (x + 3, "end") if end else (x - 3, "start")
        yield (
            f'<g class="{kind}"><line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{_HEIGHT - _BOTTOM}"/>'
            f'<text x="{place:.1f}" y="{_TOP - 7 - 15 * (number % 2)}" text-anchor="{anchor}">{escape(mark.text)}</text></g>'
        )


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


def _readings(frame: _Frame, chart: Chart) -> str:
    """Return what the page's script shows under the pointer: for each x its place, its text, and each series' value."""
    table: dict[float, list[str]] = {}
    for at, line in enumerate(chart.series):
        for x, y in line.points:
            row = table.setdefault(x, [""] * len(chart.series))
            row[at] = "" if math.isnan(y) else chart.y_text(y)
    rows = [[round(frame.across(x), 1), f"{chart.x_text(x)}", *row] for x, row in sorted(table.items())]
    return json.dumps({"names": [line.name for line in chart.series], "rows": rows}, separators=(",", ":"))


def _key(name: str, colour: int, at: int) -> str:
    dash = _DASHES[at % len(_DASHES)]
    return (
        f'<span class="key"><svg viewBox="0 0 26 8" aria-hidden="true"><path d="M1 4H25" class="line"'
        f' style="stroke:var(--c{colour})" stroke-dasharray="{dash}"/></svg>{escape(name)}</span>'
    )


def _svg(title: str, parts: Sequence[str], readings: str | None) -> str:
    data = f" data-readings='{escape(readings, quote=True)}'" if readings else ""
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(title, quote=True)}"{data}>'
        f"{''.join(parts)}</svg>"
    )


def _figure(title: str, body: str, legend: str, note: str) -> str:
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    keys = f'<div class="legend">{legend}</div>' if legend else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{keys}{body}{below}</figure>"
