"""Frames: what every chart has around its data: axes, marks, legend, figure.

Here lives that. Never here: the data (``chart``), or where ticks stand (``scale``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from loadtests.report.scale import Format, Scale, linear, logarithmic

__all__ = [
    "BOTTOM",
    "COLOURS",
    "DASHES",
    "HEIGHT",
    "LEFT",
    "TOP",
    "Frame",
    "Mark",
    "draw_marks",
    "figure",
    "key",
    "svg",
    "x_axis",
    "y_axis",
    "y_scale",
]

COLOURS: Final = 8
"""How many colours the page gives: ``--c0`` to ``--c7``."""

WIDTH: Final = 720.0
HEIGHT: Final = 316.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 22.0, 42.0, 48.0
DASHES: Final = ("", "7 3", "2 3", "10 3 2 3")


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at ``at`` on the x axis: a vertical line with a word. ``good`` if it ended trouble."""

    at: float
    text: str
    good: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """The space between the axes."""

    x: Scale
    y: Scale
    width: float = field(default=WIDTH - LEFT - RIGHT)
    height: float = field(default=HEIGHT - TOP - BOTTOM)

    def across(self, value: float) -> float:
        """Return where a value stands on the drawing, from the left."""
        return LEFT + self.width * self.x.place(value)

    def down(self, value: float) -> float:
        """Return where a value stands on the drawing, from the top."""
        return TOP + self.height * (1 - self.y.place(value))


def y_scale(ys: Sequence[float], *, log: bool, low: float | None, high: float | None) -> Scale:
    """Return the y axis for these values: from ``low`` to ``high``, or as far as they go."""
    if log:
        above = [y for y in ys if y > 0] or [1.0]
        return logarithmic(min(above), max(above))
    return linear(min(ys) if low is None else low, max(ys) if high is None else high, ticks=4)


def y_axis(frame: Frame, label: str, text: Format) -> Iterator[str]:
    """Draw the y axis, with a line across for each tick."""
    for tick in frame.y.ticks:
        y = frame.down(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text(tick))}</text>'
    yield f'<text class="axis" x="4" y="14">{escape(label)}</text>'


def x_axis(frame: Frame, label: str, text: Format) -> Iterator[str]:
    """Draw the x axis."""
    floor = HEIGHT - BOTTOM
    yield f'<line class="floor" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>'
    for tick in frame.x.ticks:
        x = frame.across(tick)
        yield f'<line class="floor" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{floor + 19}" text-anchor="middle">{escape(text(tick))}</text>'
    yield f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(label)}</text>'


def draw_marks(frame: Frame, marks: Sequence[Mark]) -> Iterator[str]:
    """Draw vertical lines, each with its word above."""
    for number, mark in enumerate(sorted(marks, key=lambda mark: mark.at)):
        x = frame.across(mark.at)
        kind = "healed" if mark.good else "fault"
        end = x > WIDTH * 0.75
        place, anchor = (x + 3, "end") if end else (x - 3, "start")
        yield (
            f'<g class="{kind}"><line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text x="{place:.1f}" y="{TOP - 7 - 15 * (number % 2)}" text-anchor="{anchor}">{escape(mark.text)}</text></g>'
        )


def key(name: str, colour: int, at: int) -> str:
    """Return an entry of a legend; ``at`` chooses its dashes."""
    dash = DASHES[at % len(DASHES)]
    return (
        f'<span class="key"><svg viewBox="0 0 26 8" aria-hidden="true"><path d="M1 4H25" class="line"'
        f' style="stroke:var(--c{colour})" stroke-dasharray="{dash}"/></svg>{escape(name)}</span>'
    )


def svg(title: str, parts: Sequence[str], readings: str | None) -> str:
    """Return the drawing; ``readings`` are the values that the page's script shows."""
    data = f" data-readings='{escape(readings, quote=True)}'" if readings else ""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(title, quote=True)}"{data}>'
        f"{''.join(parts)}</svg>"
    )


def figure(title: str, body: str, legend: str, note: str) -> str:
    """Return a drawing with its title, legend and note."""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    keys = f'<div class="legend">{legend}</div>' if legend else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{keys}{body}{below}</figure>"
