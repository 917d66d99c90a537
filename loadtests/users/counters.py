"""Counters: what numbers that only this process adds to may be.

Here lives judging the answer of an increment. Never here: asking.

An answer must count all increments that were acknowledged before it was asked, and no more than have ever been sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.users.ledger import Verdict

__all__ = ["Counters", "Tally"]


class Tally:
    """One counter: acknowledged <= its value <= sent, in increments of one."""

    __slots__ = ("acknowledged", "sent")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.sent = 0

    def judge(self, before: int, answer: int) -> Verdict:
        """Judge the new value; ``before`` was ``acknowledged`` when the increment was sent."""
        if answer <= before:
            return Verdict.OLD
        return Verdict.HIT if answer <= self.sent else Verdict.WRONG

    def judge_final(self, value: int) -> Verdict:
        """Judge what is there when nothing is on its way."""
        if value < self.acknowledged:
            return Verdict.OLD
        return Verdict.HIT if value <= self.sent else Verdict.WRONG


class Counters:
    """The counters of a process, known once they were set to zero."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def start(self, key: str) -> None:
        """Note that the counter was deleted, so that it counts from 0."""
        self._tallies[key] = Tally()

    def tally(self, key: str) -> Tally | None:
        """Return the counter, None if it was never started."""
        return self._tallies.get(key)

    def all(self) -> Iterator[tuple[str, Tally]]:
        """Return every counter."""
        return iter(self._tallies.items())

    def __repr__(self) -> str:
        return f"<Counters {len(self._tallies)}>"
