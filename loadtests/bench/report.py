"""The report of a run: one table a section for people, one document for programs.

Here lives how figures are shown. Never here: how they came about.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtests.bench.goals import OURS, Verdict, judge
from loadtests.bench.turns import Outcome
from loadtests.bench.works import SECTIONS, WORKS, Section, Work

__all__ = ["document_of", "machine", "print_tables", "versions"]

_PACKAGES: Final = ("kvcache", "uvloop", "redis", "hiredis", "aiomcache", "emcache", "pymemcache")
_MARKS: Final = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}


def machine() -> str:
    """Return one line about this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_processor()}, {cores} cores, {platform.system()} {platform.release()}, {python}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Return the version of every package and server that takes part; "absent" where there is none."""
    found = {name: _package_version(name) for name in _PACKAGES}
    return found | {name: _server_version(name) for name in ("redis-server", "valkey-server", "memcached")}


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _server_version(name: str) -> str:
    binary = shutil.which(name)
    if binary is None:
        return "absent"
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    words = [word.removeprefix("v=") for word in said.split()]
    return next((word for word in words if word[:1].isdigit()), said.strip())


def document_of(outcomes: Sequence[Outcome], settings: Mapping[str, Any], skipped: Mapping[str, str]) -> dict[str, Any]:
    """Return the whole run as a JSON-able document, every sample included."""
    works = {work.name: work for work in WORKS}
    return {
        "machine": machine(),
        "versions": versions(),
        "settings": dict(settings),
        "skipped": dict(skipped),
        "works": [_work_document(works[outcome.work], outcome) for outcome in outcomes],
    }


def _work_document(work: Work, outcome: Outcome) -> dict[str, Any]:
    section = SECTIONS[work.section]
    others = [name for name in outcome.samples if name != OURS]
    lower = section.lower_is_better
    return {
        "name": work.name,
        "title": work.title,
        "unit": section.unit,
        "medians": outcome.medians,
        "samples": {name: list(samples) for name, samples in outcome.samples.items()},
        "ratio_to_reference": outcome.ratio(OURS, [section.reference]),
        "best_other": outcome.best(others, lower_is_better=lower),
        "ratio_to_best_other": outcome.ratio(OURS, others, lower_is_better=lower),
        "goals": [
            {"wanted": verdict.wanted, "measured": verdict.measured, "reached": verdict.reached}
            for verdict in judge(outcome)
        ],
    }


def print_tables(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print what was measured, a table for each section that has something."""
    works = {work.name: work for work in WORKS}
    for section in SECTIONS.values():
        rows = [outcome for outcome in outcomes if works[outcome.work].section == section.name]
        if rows:
            console.print(_table(section, rows, works))


def _table(section: Section, rows: Sequence[Outcome], works: Mapping[str, Work]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in works[row.work].contestants))
    title = f"{section.title} ({section.unit})" if section.unit else section.title
    table = Table(title=title, title_justify="left")
    table.add_column("work")
    for name in (*names, f"to {section.reference}", "to the best other"):
        table.add_column(name, justify="right")
    table.add_column("wanted: measured")
    table.add_column("reached")
    for row in rows:
        verdicts = judge(row)
        table.add_row(
            works[row.work].title,
            *(_figure(row.medians.get(name)) for name in names),
            _ratio(row.ratio(OURS, [section.reference])),
            _best(row, section),
            "\n".join(map(_verdict, verdicts)) or "-",
            "\n".join(_MARKS[verdict.reached] for verdict in verdicts) or "-",
        )
    return table


def _best(row: Outcome, section: Section) -> str:
    others = [name for name in row.samples if name != OURS]
    best = row.best(others, lower_is_better=section.lower_is_better)
    ratio = row.ratio(OURS, others, lower_is_better=section.lower_is_better)
    return f"{_ratio(ratio)} {best}" if best and ratio is not None else "-"


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.wanted}: {'-' if verdict.measured is None else f'{verdict.measured:.2f}'}"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
