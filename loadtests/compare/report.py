"""Report: the page of a comparison, and the summary that ends the run on the terminal.

Here lives what is shown. Never here: drawing (``loadtests.report``) or figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtests.compare.figures import Comparison, judge
from loadtests.compare.systems import OURS, SYSTEMS
from loadtests.compare.users import Turn
from loadtests.report.chart import BarChart, Chart, Series, bar_chart, line_chart
from loadtests.report.page import Card, Tone, cards, page, section, table
from loadtests.report.scale import milliseconds_text

__all__ = ["comparison_page", "print_summary"]

_COLUMNS: Final[Sequence[tuple[str, Callable[[Turn], float], str]]] = (
    ("requests/s", lambda turn: turn.per_second, ",.0f"),
    ("requests per CPU s", lambda turn: turn.per_cpu_second, ",.0f"),
    ("p50 ms", lambda turn: turn.latency_ms(0.5), ".2f"),
    ("p99 ms", lambda turn: turn.latency_ms(0.99), ".2f"),
)
_TONES: Final[dict[bool | None, Tone]] = {True: "good", False: "bad", None: ""}
_WORDS: Final = {True: "reached", False: "not reached", None: "not measured"}


def comparison_page(comparisons: Sequence[Comparison], subtitle: str, notes: Sequence[str]) -> str:
    """Return the whole page."""
    body = []
    for comparison in comparisons:
        verdicts = judge(comparison)
        ratios = [
            Card(_ratio(it.measured), f"{it.goal.text}: {_WORDS[it.reached]}", _TONES[it.reached]) for it in verdicts
        ]
        body.append(
            section(
                f"{comparison.mix}: the same users on each cache",
                cards(ratios),
                table(_head(), _rows(comparison)),
                _bars(comparison),
                _rounds(comparison),
                _latencies(comparison),
            )
        )
    if notes:
        body.append(section("Left out", table(["what and why"], [[note] for note in notes])))
    return page("kvcache beside Redis Cluster and memcached", subtitle, body)


def print_summary(console: Console, comparisons: Sequence[Comparison], notes: Sequence[str]) -> None:
    """Print medians, ratios and goals."""
    for comparison in comparisons:
        shown = Table(title=f"{comparison.mix}: medians of the rounds", title_justify="left")
        for name in _head():
            shown.add_column(name, justify="left" if name == "cache" else "right")
        for row in _rows(comparison):
            shown.add_row(*row)
        console.print(shown)
        for it in judge(comparison):
            console.print(f"  {it.goal.text}: {_ratio(it.measured)}, {_WORDS[it.reached]}", highlight=False)
    for note in notes:
        console.print(note, style="yellow", highlight=False, soft_wrap=True)


def _head() -> list[str]:
    return ["cache", *(name for name, _, _ in _COLUMNS), "requests/s of kvcache to it", "failed", "wrong"]


def _rows(comparison: Comparison) -> list[list[str]]:
    rows = []
    for name, turns in comparison.turns.items():
        if turns:
            figures = (f"{comparison.median_of(name, figure) or 0:{form}}" for _, figure, form in _COLUMNS)
            ratio = "" if name == OURS else _ratio(comparison.ratio(name, lambda turn: turn.per_second))
            bad = (str(sum(turn.failed for turn in turns)), str(sum(turn.wrong for turn in turns)))
            rows.append([SYSTEMS[name].title, *figures, ratio, *bad])
    return rows


def _measured(comparison: Comparison) -> list[str]:
    return [name for name, turns in comparison.turns.items() if turns]


def _bars(comparison: Comparison) -> str:
    series = [
        (SYSTEMS[name].title, [comparison.median_of(name, lambda turn: turn.per_second) or math.nan])
        for name in _measured(comparison)
    ]
    return bar_chart(BarChart("Requests per second, median", "requests/s", [comparison.mix], series))


def _latencies(comparison: Comparison) -> str:
    verbs = comparison.verbs()

    def p99(name: str, verb: str) -> float:
        return comparison.median_of(name, lambda turn: turn.latency_ms(0.99, verb)) or math.nan

    series = [(SYSTEMS[name].title, [p99(name, verb) for verb in verbs]) for name in _measured(comparison)]
    return bar_chart(BarChart("p99 by verb, median", "latency", verbs, series, y_text=milliseconds_text))


def _rounds(comparison: Comparison) -> str:
    lines = [
        Series(SYSTEMS[name].title, [(number, turn.per_second) for number, turn in enumerate(turns, start=1)])
        for name, turns in comparison.turns.items()
        if turns
    ]
    return line_chart(Chart("Requests per second, round by round", "round", "requests/s", lines))


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} x"
