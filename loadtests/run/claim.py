"""The claim: of all runs on a cluster, one at a time writes the keys of a worker's number.

Here lives saying so in the cache itself, and seeing who else does. Never here: what a value of another run means (``ledger``).

The keys of two runs have the same names, so that a run finds what one before it has left. Two at once would each call the
other's values old or lost. So a run keeps a claim beside its keys, with a count that goes on, and does not begin where it finds
another's that goes on. A claim that stands still was left by a run that was killed. Where two begin in the same moment, both see
it later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final

from loadtests import CannotRun
from loadtests.adapters import CacheAdapter
from loadtests.run.watch import every

__all__ = ["Claim"]

_SECONDS: Final = 1.0
_STILL: Final = 2
"""After so many times that long without a change, a claim stands still."""
_LIVES: Final = 5
"""And after so many it is gone."""
_LOOKS: Final = 20


class Claim:
    """The claim of one process, renewed every ``seconds`` while it is held; ``foreign`` is called when another's is seen."""

    def __init__(
        self, cache: CacheAdapter, worker: int, run: str, foreign: Callable[[], None], *, seconds: float = _SECONDS
    ) -> None:
        self._cache = cache
        self._key = f"load:claim:{worker}"
        self._run = run.encode()
        self._foreign = foreign
        self._seconds = seconds
        self._count = count()
        self._stop: Callable[[], None] = lambda: None
        self._held = False
        self._renewing = threading.Lock()

    def take(self) -> None:
        """Take it, and renew it from now on. Raises ``CannotRun`` while another run holds it."""
        found = self._read()
        for _ in range(_STILL * _LOOKS):
            if found is None:
                break
            time.sleep(self._seconds / _LOOKS)
            now = self._read()
            if now not in (found, None):
                raise CannotRun(
                    f"another run writes the same keys here ({self._key} goes on): each would call the other's values old"
                    " or lost; wait for its end, or stop it"
                )
            found = now
        self._held = True
        self._write()
        self._stop = every(self._seconds, self._renew)

    def give_back(self) -> None:
        """End it. Safe to call again."""
        self._stop()
        with self._renewing:
            if self._held:
                self._held = False
                with suppress(*self._cache.errors):
                    self._cache.delete(self._key)

    def _renew(self) -> None:
        with self._renewing:
            if not self._held:
                return
            found = self._read()
            if found is not None and not found.startswith(self._run + b" "):
                self._foreign()
            self._write()

    def _read(self) -> bytes | None:
        """Return the claim as it stands; None also where it can't be read, which forbids nobody to begin."""
        with suppress(*self._cache.errors):
            found = self._cache.get(self._key)
            return found if isinstance(found, bytes) else None
        return None

    def _write(self) -> None:
        with suppress(*self._cache.errors):
            self._cache.set(self._key, self._run + b" %d" % next(self._count), _LIVES * self._seconds)

    def __repr__(self) -> str:
        return f"<Claim {self._key} of run {self._run.decode()}{'' if self._held else ', not held'}>"
