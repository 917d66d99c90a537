"""Free keys: one to write that nobody is writing, so that the writes of a key are in one line.

Here lives choosing it. Never here: drawing by popularity (``keys``), or what a write does to a key (``ledger``).

Where a few keys are wanted by many writers, most draws meet a key that is being written. So after some draws the choice widens:
any of the first 8 ranks, of the first 16, and so on to all of them. That finds a popular free key in a few steps, however many
are busy. Only where every key is being written is there anything to wait for.
"""

from __future__ import annotations

import time
from random import Random
from typing import Final

from loadtests.users.keys import ZipfKeys
from loadtests.users.ledger import Known, Ledger

__all__ = ["FreeKeys"]

_DRAWS: Final = 4


class FreeKeys:
    """The keys that a process writes, and which of them are being written."""

    def __init__(self, keys: ZipfKeys, ledger: Ledger, dice: Random) -> None:
        self._keys = keys
        self._ledger = ledger
        self._dice = dice

    def one(self) -> tuple[str, Known]:
        """Return a key that nobody is writing; while there is none, other users go on."""
        while True:
            key = self._keys.draw()
            known = self._ledger.known(key)
            if not known.busy:
                return key, known
            found = self._look()
            if found is not None:
                return found
            time.sleep(0)

    def several(self, most: int) -> dict[str, Known]:
        """Return 1 to ``most`` of them: a key that comes twice counts once.

        Waits only for the first: while it waited for another, somebody might begin to write what it holds already.
        """
        others = (self._look() for _ in range(most - 1))
        return dict([self.one(), *filter(None, others)])

    def _look(self) -> tuple[str, Known] | None:
        """Return a free key without waiting, None if there is none."""
        keys, known_of = self._keys, self._ledger.known
        for _ in range(_DRAWS):
            key = keys.draw()
            known = known_of(key)
            if not known.busy:
                return key, known
        width = 2 * _DRAWS
        while width < keys.count:
            key = keys.name(self._dice.randrange(width))
            known = known_of(key)
            if not known.busy:
                return key, known
            width *= 2
        for number in range(keys.count):
            known = known_of(keys.name(number))
            if not known.busy:
                return keys.name(number), known
        return None

    def __repr__(self) -> str:
        return f"<FreeKeys of {self._keys!r}>"
