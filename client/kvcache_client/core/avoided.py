"""Avoided: the nodes that reads pass over, for whatever reason.

Here lives the union of the reasons. Never here: a reason (``health``: can't be reached; ``breaker``: answers badly).

It is looked up and never stored: threads share a blocking client without a lock, and a third record of who is avoided could
come to differ from the two that say why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

__all__ = ["Avoided"]


class Avoided(Collection[str]):
    """The nodes that are in ``down`` or in ``opened`` at this moment."""

    __slots__ = ("_down", "_opened")

    def __init__(self, down: Mapping[str, object], opened: Mapping[str, object]) -> None:
        self._down = down
        self._opened = opened

    def __contains__(self, node: object) -> bool:
        return node in self._down or node in self._opened

    def __bool__(self) -> bool:
        return bool(self._down or self._opened)

    def __iter__(self) -> Iterator[str]:
        # Copies, for other threads may report meanwhile.
        return iter({*list(self._down), *list(self._opened)})

    def __len__(self) -> int:
        return len(set(self))

    def __repr__(self) -> str:
        return f"<Avoided {sorted(self)}>"
