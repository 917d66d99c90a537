"""Right and wrong: what a report says of the answers that were judged.

Here lives telling "none was found" from "nobody looked". Never here: judging (``users.ledger``), or the SLOs (``run.slo``).
"""

from __future__ import annotations

from typing import Final

from loadtests.report.page import Card, Tone, table
from loadtests.run.recording import Recording
from loadtests.run.slo import blind_spot
from loadtests.users.ledger import Verdict

__all__ = ["judged_cards", "judged_table"]

_LOST: Final = "lost"
_OLD: Final = str(Verdict.OLD)
_WRONG: Final = str(Verdict.WRONG)


def judged_cards(run: Recording) -> list[Card]:
    """Return what a reader must see first."""
    labels = {"acknowledged writes lost": (_LOST,), "old or wrong answers": (_OLD, _WRONG)}
    found = {label: _found(run, *facts) for label, facts in labels.items()}
    return [Card(count, label, tone) for label, (count, tone) in found.items()]


def judged_table(run: Recording) -> str:
    """Return all of it."""
    labels = {
        "acknowledged writes that could not be found again": _LOST,
        "answers older than an acknowledged write": _OLD,
        "answers that nobody wrote to that key, or damaged": _WRONG,
    }
    found = {label: _found(run, fact) for label, fact in labels.items()}
    rows = [[label, count] for label, (count, _) in found.items()]
    rows.append(["keys and counters looked for when the load had ended", f"{run.facts['checked']:,}"])
    if run.facts["computed"]:
        rows.append(["values computed for get_or_compute, by all callers together", f"{run.facts['computed']:,}"])
    return table(["", "count"], rows, [tone for _, tone in found.values()])


def _found(run: Recording, *facts: str) -> tuple[str, Tone]:
    """Return how often these were found; "-" where none was, but not all was looked at."""
    count = sum(run.facts[fact] for fact in facts)
    if not count and any(blind_spot(fact, run) for fact in facts):
        return "-", ""
    return f"{count:,}", "bad" if count else "good"
