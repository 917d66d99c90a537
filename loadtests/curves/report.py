"""Report: the page of curves, and the summary that ends the run on the terminal.

Here lives which charts there are. Never here: drawing (``loadtests.report``), or figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from loadtests.curves.axes import AXES
from loadtests.curves.hit_ratio import HitPoint
from loadtests.curves.results import FIGURE_TRACE, LoadRow, Results, judge
from loadtests.report.chart import Chart, Series, line_chart
from loadtests.report.page import page, section, table
from loadtests.report.scale import bytes_text, count_text, milliseconds_text, share_text

__all__ = ["curves_page", "print_summary"]

_SYSTEMS = ("kvcache", "redis", "memcached")
_MIB = 1 << 20
_EQUAL_BYTES = (
    "Equal bytes: kvcache --memory; Redis maxmemory plus what the empty server uses; memcached -m with size classes that "
    "double, since each class takes a whole page of 1 MiB. Real growth of each server is in the table."
)


def curves_page(results: Results, machine: str) -> str:
    """Return the whole page."""
    body = []
    if results.loads:
        figures = [it for axis in AXES for it in _load_charts(axis.field, axis.title, axis.log, results.loads)]
        body.append(section("Throughput and latency of a kvcache cluster", *figures, columns=True))
    if results.hits:
        charts = [_hit_chart(trace, sizes) for trace, sizes in results.by_trace().items()]
        body.append(section("Hit ratio at equal bytes", *charts, columns=True))
        body.append(section("Hit ratio in figures", _hit_table(results)))
    notes = [*results.failed, *results.skipped]
    if notes:
        body.append(section("Left out", table(["what and why"], [[note] for note in notes])))
    return page("kvcache: curves", machine, body)


def _load_charts(field: str, title: str, log: bool, rows: Sequence[LoadRow]) -> list[str]:
    mine = [row for row in rows if row.axis == field]
    if not mine:
        return []
    text = bytes_text if field == "value_bytes" else count_text
    rate = Chart(
        f"Throughput against {title}",
        title,
        "calls per second",
        [Series("calls/s, 95 % get", [(row.value, row.per_second) for row in mine])],
        log_x=log,
        x_text=text,
    )
    late = Chart(
        f"Latency against {title}",
        title,
        "latency",
        [
            Series("get p99", [(row.value, row.get_p99_ms) for row in mine]),
            Series("set p99", [(row.value, row.set_p99_ms) for row in mine]),
            Series("get p50", [(row.value, row.get_p50_ms) for row in mine]),
        ],
        log_x=log,
        log_y=True,
        x_text=text,
        y_text=milliseconds_text,
    )
    return [line_chart(rate), line_chart(late)]


def _hit_chart(trace: str, sizes: Mapping[int, Mapping[str, HitPoint]]) -> str:
    series = [
        Series(
            system,
            [(mib, at[system].hit_ratio) for mib, at in sorted(sizes.items()) if system in at],
            _SYSTEMS.index(system),
        )
        for system in _SYSTEMS
        if any(system in at for at in sizes.values())
    ]
    return line_chart(
        Chart(
            f"Hit ratio on {trace}",
            "MiB of memory",
            "hits among gets",
            series,
            y_text=share_text,
            y_from=None,
            note=_EQUAL_BYTES,
        )
    )


def _hit_table(results: Results) -> str:
    rows = [
        [
            point.trace,
            f"{point.memory_mib} MiB",
            point.system,
            f"{point.hit_ratio:.2%}",
            f"{point.records:,}",
            f"{point.grown_bytes / _MIB:.1f} MiB",
        ]
        for point in results.hits
    ]
    return table(["trace", "memory", "system", "hit ratio", "records at the end", "really grown by"], rows)


def print_summary(console: Console, results: Results) -> None:
    """Print what was measured, as tables, with the verdict on the figure."""
    if results.loads:
        shown = Table(title="throughput and latency of a kvcache cluster", title_justify="left")
        for name in ("against", "value", "calls/s", "get p99 ms", "set p99 ms", "failed", "missed"):
            shown.add_column(name, justify="left" if name == "against" else "right")
        for row in results.loads:
            latency = (f"{it:.2f}" for it in (row.get_p99_ms, row.set_p99_ms))
            shown.add_row(
                row.axis, f"{row.value:,}", f"{row.per_second:,.0f}", *latency, str(row.failed), str(row.missed)
            )
        console.print(shown)
    if results.hits:
        console.print(_hit_summary(results))
        _print_verdict(console, results)
    for line in (*results.failed, *results.skipped):
        console.print(line, style="yellow", highlight=False, soft_wrap=True)


def _hit_summary(results: Results) -> Table:
    shown = Table(title="hit ratio at equal bytes (real growth in MiB)", title_justify="left")
    for name in ("trace", "MiB", *_SYSTEMS):
        shown.add_column(name, justify="left" if name == "trace" else "right")
    for trace, sizes in results.by_trace().items():
        for mib, at in sorted(sizes.items()):
            cells = (
                f"{at[it].hit_ratio:.2%} ({at[it].grown_bytes / _MIB:.1f})" if it in at else "-" for it in _SYSTEMS
            )
            shown.add_row(trace, str(mib), *cells)
    return shown


def _print_verdict(console: Console, results: Results) -> None:
    verdict = judge(results.by_trace().get(FIGURE_TRACE, {}))
    if verdict is None:
        return
    word = "[green]reached[/]" if verdict.reached else "[red]not reached[/]"
    said = f"{FIGURE_TRACE}: above all peers at {verdict.above} of {verdict.sizes} sizes, below one at {len(verdict.below)}"
    console.print(f"{said}: {word}", highlight=False, soft_wrap=True)
    for line in verdict.below:
        console.print(f"  {line}", highlight=False, soft_wrap=True)
