"""The summary: a run's figures for programs, as JSON beside the report.

Here lives its form. Never here: what a person reads (``run_report``).
"""

from __future__ import annotations

from typing import Any

from loadtests.report.recovery import cost_of
from loadtests.report.timelines import Timelines
from loadtests.run.outcome import Outcome

__all__ = ["summary"]


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return the figures; times in the unit that their name ends with."""
    run = outcome.recording
    lines = Timelines(run, outcome.began)
    happenings = []
    for it in outcome.happenings:
        cost = cost_of(it, run, lines.seconds) if it.kind == "fault" else None
        happenings.append(
            {
                "at_s": round(lines.x(it.at), 3),
                "kind": it.kind,
                "text": it.text,
                "failed_reads": cost.failed_reads if cost else None,
                "failed_writes": cost.failed_writes if cost else None,
                "recovered_s": cost.recovered if cost else None,
            }
        )
    return {
        "title": outcome.title,
        "settings": dict(outcome.settings),
        "seconds": round(outcome.seconds, 3),
        "operations": run.count(),
        "verbs": {verb: _verb(outcome, verb) for verb in run.verbs()},
        "nodes": run.nodes(),
        "facts": dict(run.facts),
        "slo": [{"term": it.term.text, "value": it.value, "held": it.held} for it in outcome.judgements],
        "happenings": happenings,
        "notes": list(outcome.notes),
    }


def _verb(outcome: Outcome, verb: str) -> dict[str, Any]:
    run = outcome.recording
    outcomes = sorted({place.outcome for place, _ in run.select(verb)})
    return {
        "operations": run.count(verb=verb),
        "latency_ms": {name: round(ms, 4) for name, ms in run.latency(verb).summary_ms().items()},
        "outcomes": {name: run.count(name, verb=verb) for name in outcomes},
    }
