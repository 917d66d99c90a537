"""SLOs: what a run must hold, and whether it did.

Here lives the syntax, the figures that a term may name, and the judgement. Never here: exit codes.

``get.p99<20ms,failed<0.1%,lost=0``: terms with commas between, each FIGURE, one of ``< <= = >= >``, NUMBER and unit.
A figure may have a verb before it (``get.p99``); without one it is of all verbs.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from loadtests.run.recording import FAILED, IN_DOUBT, NOT_BEGUN, Recording
from loadtests.users.ledger import Verdict

__all__ = ["FIGURES", "Judgement", "Slo", "Term", "blind_spot", "judge", "parse_slo"]

_TERM: Final = re.compile(r"(?:([a-z_]+)\.)?([a-z0-9_.]+?)\s*(<=|>=|<|>|=)\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|%|/s)?")
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}
_SECONDS: Final[Mapping[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure that a term may name: its unit, whether it may be of one verb, and how it is read off a run."""

    unit: str
    """``time``, ``count``, ``rate``, or ``share``: a count of outcomes, or with % their share of all answers."""
    by_verb: bool
    read: Callable[[Recording, str | None, float], float]
    """(recording, verb, seconds of the run) -> seconds, a number, or operations per second."""


def _percentile(fraction: float) -> _Figure:
    return _Figure("time", True, lambda run, verb, seconds: run.latency(verb).percentile(fraction))


def _outcomes(*names: str) -> _Figure:
    return _Figure("share", True, lambda run, verb, seconds: float(run.count(*names, verb=verb)))


def _fact(name: str) -> _Figure:
    return _Figure("count", False, lambda run, verb, seconds: float(run.facts[str(name)]))


def _hit_ratio(run: Recording, verb: str | None, seconds: float) -> float:
    hits = run.count(Verdict.HIT, Verdict.STALE_HIT, verb=verb or "get")
    asked = hits + run.count(Verdict.MISS, verb=verb or "get")
    return hits / asked if asked else 0.0


def _not_begun(run: Recording, verb: str | None, seconds: float) -> float:
    in_vain = run.count(NOT_BEGUN, verb=verb)
    return in_vain / (in_vain + run.count(verb=verb)) if in_vain else 0.0


FIGURES: Final[Mapping[str, _Figure]] = {
    "p50": _percentile(0.5),
    "p90": _percentile(0.9),
    "p99": _percentile(0.99),
    "p99.9": _percentile(0.999),
    "max": _Figure("time", True, lambda run, verb, seconds: run.latency(verb).maximum),
    "failed": _outcomes(FAILED),
    "in_doubt": _outcomes(IN_DOUBT),
    "misses": _outcomes(Verdict.MISS),
    "not_begun": _Figure("ratio", True, _not_begun),
    "hit_ratio": _Figure("ratio", True, _hit_ratio),
    "rate": _Figure("rate", True, lambda run, verb, seconds: run.count(verb=verb) / seconds if seconds else 0.0),
    "lost": _fact("lost"),
    "old": _fact(Verdict.OLD),
    "wrong": _fact(Verdict.WRONG),
}
"""Name -> figure. ``not_begun`` is the share of all open arrivals that no user had come to by the end.
``lost`` are acknowledged writes that can't be read any more, with nothing to explain it; ``old`` are reads of a value older than
an acknowledged one, ``wrong`` of one that nobody wrote to that key. All three include the last reading, and are not known where
that has a blind spot."""

_UNSEEN: Final[Mapping[str, str]] = {
    "unreadable": "keys could not be read",
    "unchecked": "keys were not looked for",
    "workers lost": "workers took with them what they had written",
}
"""Fact -> what it means."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term, as it was written, with its limit in the figure's own unit."""

    text: str
    verb: str | None
    figure: str
    compare: str
    limit: float
    share: bool
    """Whether the limit is a share of all answers instead of a count."""


Slo = tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a term. ``value`` is in the unit of its limit."""

    term: Term
    value: float
    held: bool
    blind: str = ""
    """What was not looked at, so that the value says too little."""

    def __str__(self) -> str:
        return f"{self.term.text}: {'held' if self.held else 'FAILED'}, {self.shown}"

    @property
    def shown(self) -> str:
        """The value for a person."""
        unit = FIGURES[self.term.figure].unit
        if unit == "time":
            return f"{self.value * 1e3:.3g} ms"
        if self.term.share or unit == "ratio":
            return f"{self.value:.4%}"
        if self.blind:
            return f"{self.value:,.0f}, but {self.blind}"
        return f"{self.value:,.0f}/s" if unit == "rate" else f"{self.value:,.0f}"


def parse_slo(text: str) -> Slo:
    """Return the terms of ``text``; none for nothing. Raises ``ValueError`` that names the term and what is wrong."""
    return tuple(_term(piece.strip()) for piece in text.split(",") if piece.strip())


def judge(slo: Slo, run: Recording, seconds: float) -> list[Judgement]:
    """Judge every term by a run that took ``seconds``. What was not measured, or not wholly looked at, is not held."""
    return [_judge(term, run, seconds) for term in slo]


def blind_spot(figure: str, run: Recording) -> str:
    """Return why ``lost``, ``old`` or ``wrong`` is not known of this run; empty if it is."""
    unseen = [f"{run.facts[fact]:,} {text}" for fact, text in _UNSEEN.items() if run.facts[fact]]
    looked = run.facts["checked"] if figure == "lost" else run.count()
    return ", ".join(unseen) or ("" if looked else "nothing was looked at")


def _judge(term: Term, run: Recording, seconds: float) -> Judgement:
    figure = FIGURES[term.figure]
    answers = run.count(verb=term.verb)
    value = figure.read(run, term.verb, seconds)
    if term.share:
        value = value / answers if answers else 0.0
    blind = "" if figure.by_verb else blind_spot(term.figure, run)
    held = bool(answers) and not blind and _COMPARE[term.compare](value, term.limit)
    return Judgement(term, value, held, blind)


def _term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not FIGURE<NUMBER, as get.p99<20ms, failed<0.1% or lost=0")
    verb, name, compare, number, unit = match.groups()
    figure = FIGURES.get(name)
    if figure is None:
        raise ValueError(f"{text!r}: there is no figure {name!r}; there is: {', '.join(FIGURES)}")
    if verb and not figure.by_verb:
        raise ValueError(f"{text!r}: {name} is of the whole run, not of one verb")
    allowed = {"time": tuple(_SECONDS), "share": (None, "%"), "count": (None,), "rate": (None, "/s")}
    if unit not in allowed.get(figure.unit, (None, "%")):
        raise ValueError(f"{text!r}: {name} can't be in {unit or 'a number without a unit'}")
    limit = float(number) * (_SECONDS.get(unit, 1.0) if unit != "%" else 0.01)
    share = figure.unit == "share" and unit == "%"
    most = 1.0 if share or figure.unit == "ratio" else math.inf  # and the least of any figure is 0
    if (
        (limit == 0 and compare == "<")
        or (limit > most and compare in ("=", ">="))
        or (limit >= most and compare == ">")
    ):
        raise ValueError(f"{text!r} can never be held")
    return Term(text, verb, name, compare, limit, share)
