"""The report of one run.

Here lives what it shows and in which order. Never here: how a chart is drawn (``chart``), or the figures themselves (``run``).
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from loadtests import CannotRun
from loadtests.histogram import PERCENTILES
from loadtests.report.chart import Chart, Mark, Series, line_chart
from loadtests.report.judged import judged_cards, judged_table
from loadtests.report.page import Card, Tone, cards, page, pairs, section, table
from loadtests.report.recovery import cost_of
from loadtests.report.scale import bytes_text, milliseconds_text, share_text
from loadtests.report.summary import summary
from loadtests.report.timelines import Point, Timelines
from loadtests.run.outcome import Outcome, machine
from loadtests.run.recording import FAILED, IN_DOUBT
from loadtests.users.ledger import Verdict

__all__ = ["check_place", "render", "write_report"]

_READS: Final = ("get", "get_many", "get_or_compute")
_X: Final = "seconds since the users began"
_SILENCE: Final = 2.5
"""Seconds without a word of a node after which its line has a gap."""


def check_place(path: str) -> None:
    """Find out now, and not at the end of a run, whether a report can be written there. Raises ``CannotRun``."""
    place = Path(path)
    figures = place.with_suffix(".json") if place.name else place
    if place.suffix == ".json":
        raise CannotRun(f"--report {path!r}: that is where the figures go; name the HTML file beside it")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for file in (place, figures):
            was_there = file.exists()
            file.open("ab").close()
            if not was_there:
                file.unlink()
    except OSError as error:
        raise CannotRun(f"--report {path!r} can't be written: {error.filename}: {error.strerror}") from error


def write_report(outcome: Outcome, path: str) -> None:
    """Write the report, and its figures as JSON beside it; their folder is made where there is none."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(render(outcome, machine()), encoding="utf-8")
    place.with_suffix(".json").write_text(json.dumps(summary(outcome), indent=2) + "\n", encoding="utf-8")


def render(outcome: Outcome, host: Mapping[str, str]) -> str:
    """Return the report as HTML; ``host`` tells of the machine."""
    lines = Timelines(outcome.recording, outcome.began)
    body = [
        cards(_cards(outcome)),
        _slo_section(outcome),
        *(
            [section("Read this first", *(f"<p>{note}</p>" for note in map(_plain, outcome.notes)))]
            if outcome.notes
            else []
        ),
        section("Second by second", *_charts(outcome, lines), columns=True),
        section("Verbs", _verb_table(outcome)),
        _fault_section(outcome, lines),
        section("Right and wrong", judged_table(outcome.recording)),
        _error_section(outcome),
        section("How it was run", pairs(outcome.settings)),
        section("Where it was run", pairs(host)),
    ]
    began = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(outcome.began))
    subtitle = f"{began}, {outcome.seconds:.0f} s, {outcome.settings.get('users', '?')} users"
    return page(outcome.title, subtitle, body, verdict=_verdict(outcome))


def _verdict(outcome: Outcome) -> tuple[str, Tone] | None:
    if not outcome.judgements:
        return None
    broken = [judgement.term.text for judgement in outcome.judgements if not judgement.held]
    return (f"SLO not held: {', '.join(broken)}", "bad") if broken else ("All SLOs held", "good")


def _cards(outcome: Outcome) -> list[Card]:
    run, seconds = outcome.recording, outcome.seconds or 1.0
    failed_reads = sum(run.count(FAILED, verb=verb) for verb in _READS)
    failed_writes = run.count(FAILED, IN_DOUBT) - failed_reads
    hits = sum(run.count(Verdict.HIT, Verdict.STALE_HIT, verb=verb) for verb in _READS)
    asked = hits + sum(run.count(Verdict.MISS, verb=verb) for verb in _READS)
    return [
        Card(f"{run.count() / seconds:,.0f}/s", "operations"),
        Card(milliseconds_text(run.latency().percentile(0.5) * 1e3), "half of all within (p50)"),
        Card(milliseconds_text(run.latency().percentile(0.99) * 1e3), "99 % of all within (p99)"),
        Card(share_text(hits / asked) if asked else "-", "hit ratio of reads"),
        Card(f"{failed_reads:,}", "failed reads", _tone(failed_reads)),
        Card(f"{failed_writes:,}", "writes failed or in doubt", _tone(failed_writes)),
        *judged_cards(run),
    ]


def _tone(count: float) -> Tone:
    return "bad" if count else "good"


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _slo_section(outcome: Outcome) -> str:
    if not outcome.judgements:
        return ""
    rows = [[it.term.text, it.shown, "held" if it.held else "not held"] for it in outcome.judgements]
    tones: list[Tone] = ["good" if it.held else "bad" for it in outcome.judgements]
    return section("SLO", table(["term", "measured", "verdict"], rows, tones))


def _charts(outcome: Outcome, lines: Timelines) -> list[str]:
    """Return every chart; they share their x axis and the marks of what happened while there were users."""
    last = max(outcome.seconds, *map(lines.x, lines.seconds[-1:]), 0.0)
    seen = [it for it in outcome.happenings if lines.x(it.at) <= last]
    marks = [Mark(lines.x(it.at), it.text, it.kind == "healed") for it in seen]
    charts = [
        _rates(outcome, lines),
        *_latencies(outcome, lines),
        _hit_ratio(outcome, lines),
        _misses(lines),
        _trouble(lines),
        _per_node(lines),
        _memory(outcome),
    ]
    return [line_chart(replace(chart, marks=marks, x_ends=(0.0, last))) for chart in charts]


def _chart(title: str, unit: str, groups: Mapping[str, Sequence[Point]]) -> Chart:
    return Chart(title, _X, unit, [Series(name, points) for name, points in groups.items()])


def _rates(outcome: Outcome, lines: Timelines) -> Chart:
    groups = lines.rates(lambda place: place.verb)
    ordered = {verb: groups[verb] for verb in outcome.recording.verbs()}
    note = f"Wanted: {outcome.rate:,.0f}/s in all, at full load." if outcome.rate else ""
    return replace(_chart("Operations per second", "operations/s", ordered), note=note)


def _latencies(outcome: Outcome, lines: Timelines) -> list[Chart]:
    note = "From the moment at which an operation was due." if outcome.rate else ""
    charts = {verb: lines.latencies(verb, PERCENTILES) for verb in outcome.recording.verbs()[:3]}
    return [
        replace(_chart(f"Latency of {verb}", "latency", groups), log_y=True, y_text=milliseconds_text, note=note)
        for verb, groups in charts.items()
    ]


def _hit_ratio(outcome: Outcome, lines: Timelines) -> Chart:
    verbs = [verb for verb in _READS if outcome.recording.count(verb=verb)]
    chart = _chart("Hit ratio", "hits among answered reads", {verb: lines.hit_ratio([verb]) for verb in verbs})
    return replace(chart, y_text=share_text, y_to=1.0)


def _misses(lines: Timelines) -> Chart:
    groups = lines.misses() or {"no misses": lines.level(0.0)}
    return replace(_chart("Misses by reason", "keys/s", groups), filled=True)


def _trouble(lines: Timelines) -> Chart:
    kinds = {FAILED, IN_DOUBT, str(Verdict.OLD), str(Verdict.WRONG)}
    groups = lines.rates(lambda place: place.outcome if place.outcome in kinds else None)
    shown = groups or {"nothing failed, in doubt, old or wrong": lines.level(0.0)}
    return _chart("Failed, in doubt, old, wrong", "operations/s", shown)


def _per_node(lines: Timelines) -> Chart:
    chart = _chart("Load per node", "operations/s", lines.rates(lambda place: place.node or None))
    return replace(chart, filled=True, note="Reads by the node that answered, writes by the first of their nodes.")


def _memory(outcome: Outcome) -> Chart:
    groups: defaultdict[str, list[Point]] = defaultdict(list)
    budget = 0
    for sample in sorted(outcome.samples, key=lambda sample: (sample.node, sample.at)):
        at, points = sample.at - outcome.began, groups[sample.node]
        if points and at - points[-1][0] > _SILENCE:
            points.append((at, math.nan))
        points.append((at, sample.figures.used_bytes / (1 << 20)))
        budget = max(budget, sample.figures.budget_bytes)
    note = f"Real memory of the records; the budget is {bytes_text(budget)} a node." if budget else ""
    return replace(_chart("Memory per node", "MiB", groups), note=note)


def _verb_table(outcome: Outcome) -> str:
    run, seconds = outcome.recording, outcome.seconds or 1.0
    rows = []
    for verb in [*run.verbs(), None]:
        latency = run.latency(verb)
        marks = [milliseconds_text(latency.percentile(fraction) * 1e3) for fraction in PERCENTILES.values()]
        outcomes = (run.count(it, verb=verb) for it in (Verdict.STALE_HIT, Verdict.MISS, FAILED, IN_DOUBT))
        count = run.count(verb=verb)
        longest = milliseconds_text(latency.maximum * 1e3)
        rows.append(
            [verb or "all", f"{count:,}", f"{count / seconds:,.0f}", *marks, longest, *map("{:,}".format, outcomes)]
        )
    head = ["verb", "operations", "per second", *PERCENTILES, "max", "stale hits", "misses", "failed", "in doubt"]
    return table(head, rows)


def _fault_section(outcome: Outcome, lines: Timelines) -> str:
    rows = []
    for it in outcome.happenings:
        at = f"{lines.x(it.at):.1f} s"
        cost = cost_of(it, outcome.recording, lines.seconds) if it.kind == "fault" else None
        if cost is None:
            rows.append([it.text, at, "", "", "", "", ""])
            continue
        recovered = "not in this run" if cost.recovered is None else f"after {cost.recovered:.1f} s"
        figures = [f"{cost.failed_reads:,}", f"{cost.failed_writes:,}", share_text(round(cost.lowest_rate, 3))]
        rows.append([it.text, at, *figures, milliseconds_text(cost.worst_ms), recovered])
    if not rows:
        return ""
    head = [
        "what happened",
        "at",
        "failed reads",
        "writes failed or in doubt",
        "lowest rate",
        "longest answer",
        "recovered",
    ]
    note = "<p class='note'>Until it had recovered: for 3 s nothing failed and the rate was 80 % of what was usual before.</p>"
    return section("Faults", table(head, rows), note)


def _error_section(outcome: Outcome) -> str:
    if not outcome.recording.errors:
        return ""
    rows = [[text, f"{count:,}"] for text, count in outcome.recording.errors.most_common(20)]
    return section("Errors", table(["what was said", "times"], rows))
