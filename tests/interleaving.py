"""Interleavings: one piece of work, and another that comes between any two of its steps, as a second thread may.

Here lives trying them all, one after the other. Never here: threads, which would try a few of them by chance.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import count
from types import FrameType
from typing import Any

__all__ = ["interleavings"]


class _Interruption:
    """A trace function that counts the bytecodes executed in ``package``, and does ``meanwhile`` before the one at ``step``."""

    def __init__(self, package: str, step: int, meanwhile: Callable[[], object]) -> None:
        self._package = package
        self._left = step
        self._meanwhile = meanwhile
        self.happened = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            if not frame.f_globals.get("__name__", "").startswith(self._package):
                return None
            frame.f_trace_opcodes = True
        elif event == "opcode":
            self._left -= 1
            if self._left < 0 and not self.happened:
                self.happened = True
                self._meanwhile()
        return self


def interleavings(make: Callable[[], tuple[Callable[[], object], Callable[[], object]]], package: str) -> Iterator[int]:
    """Do the first of two works once for each of its bytecodes in ``package``, with the second as a whole before that one.

    ``make`` returns both, over a state that is new each time. Yields the step after each time, for a look at what came of it.
    """
    for step in count():
        work, meanwhile = make()
        interruption = _Interruption(package, step, meanwhile)
        before = sys.gettrace()
        sys.settrace(interruption)
        try:
            work()
        finally:
            sys.settrace(before)
        if not interruption.happened:
            return
        yield step
