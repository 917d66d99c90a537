"""Generations: what a flush or a purge has made invisible.

Here lives the rule which records are hidden, and the removal of hidden ones from a store. Never here: who may flush, or how
generations reach a node (they are part of the topology document).

A generation is a prefix and a version: every record at or below the version whose key starts with the prefix is hidden,
wherever it lies and whenever it arrives. A flush has the empty prefix. So a flush costs one entry in a document, however
many keys there are, and is true on a node that was away as soon as it reads the document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from kvcache.store.store import Store
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.record import brought_over, version_of
from kvcache_client.protocol.version import MAX_VERSION

__all__ = ["NO_GENERATIONS", "Generation", "Generations", "sweep"]

Generation: TypeAlias = tuple[str, int]
"""A prefix and the highest version that is hidden under it."""


class Generations:
    """Immutable. ``pairs`` is the normal form, sorted by prefix: no generation in it that another one makes superfluous.

    One is superfluous if a prefix of its prefix, or the same one, hides up to the same or a higher version.
    """

    __slots__ = ("_by_length", "pairs")

    def __init__(self, generations: Iterable[Generation] = ()) -> None:
        kept: dict[bytes, int] = {}
        for prefix, version in sorted(((_encoded(prefix), _checked(version)) for prefix, version in generations)):
            if version > _covered(kept, prefix):  # shorter prefixes come before longer ones that they start
                kept[prefix] = version
        self.pairs: Final = tuple((prefix.decode(), version) for prefix, version in kept.items())
        by_length: dict[int, dict[bytes, bytes]] = {}
        for prefix, version in kept.items():
            by_length.setdefault(len(prefix), {})[prefix] = version.to_bytes(8, "big")
        self._by_length = tuple(sorted(by_length.items()))

    def hides(self, key: bytes, record: bytes) -> bool:
        """Say whether ``record`` must not be seen under ``key``: one that was restored is, over what it was restored over.

        Costs one look per length of a prefix.
        """
        version = record[:8]
        for length, versions in self._by_length:
            highest = versions.get(key[:length])
            if highest is not None and version <= highest:
                return self.hidden_to(key) > brought_over(record)
        return False

    def hidden_to(self, key: bytes) -> int:
        """Return up to which version ``key`` is hidden; -1 if it is not."""
        highest = -1
        for length, versions in self._by_length:
            version = versions.get(key[:length])
            if version is not None:
                highest = max(highest, int.from_bytes(version, "big"))
        return highest

    def newer_than(self, before: Generations) -> tuple[Generation, ...]:
        """Return those that hide what ``before`` left to be seen."""
        known = {prefix.encode(): version for prefix, version in before.pairs}
        return tuple((prefix, version) for prefix, version in self.pairs if version > _covered(known, prefix.encode()))

    def merged(self, others: Iterable[Generation]) -> Generations:
        """Return these and ``others`` together, in normal form."""
        return Generations((*self.pairs, *others))

    def pruned(self, older_than_version: int) -> Generations:
        """Return them without those below a version, which is so old that no record of that age is anywhere any more."""
        return Generations((prefix, version) for prefix, version in self.pairs if version >= older_than_version)

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Generations) and self.pairs == other.pairs

    def __hash__(self) -> int:
        return hash(self.pairs)

    def __repr__(self) -> str:
        shown = ", ".join(f"{prefix!r:.40} up to {version:#x}" for prefix, version in self.pairs[:3])
        return f"<Generations {len(self.pairs)}{': ' if shown else ''}{shown}{', ...' if len(self.pairs) > 3 else ''}>"


NO_GENERATIONS: Final = Generations()
"""Hides nothing."""


def sweep(store: Store, generations: Generations, partition: int) -> int:
    """Forget every hidden record and tombstone of one partition; returns how many.

    What hides them stays in the document until no older copy can be anywhere, so they leave no tombstones behind.
    """
    if not generations:
        return 0
    records = list(store.records(partition))
    hidden = [(key, record) for key, record in records if generations.hides(key, record)]
    if len(hidden) == len(records):
        store.drop(partition)
    else:
        for key, record in hidden:
            store.forget(partition, key, version_of(record))
    return len(hidden)


def _covered(kept: dict[bytes, int], prefix: bytes) -> int:
    # The highest version that is hidden under the whole of a prefix, -1 if none is.
    return max((kept.get(prefix[:length], -1) for length in range(len(prefix) + 1)), default=-1)


def _encoded(prefix: str) -> bytes:
    try:
        encoded = prefix.encode()
    except UnicodeEncodeError as error:
        raise InvalidOption(f"the prefix {prefix!r:.60} is not valid Unicode") from error
    if len(encoded) > KEY_BYTES:
        raise InvalidOption(f"a prefix of {len(encoded)} bytes; no key is longer than {KEY_BYTES}", detail=KEY_BYTES)
    return encoded


def _checked(version: int) -> int:
    if not 0 <= version <= MAX_VERSION:
        raise InvalidOption(f"a generation hides up to version {version}; it must be 0 to {MAX_VERSION}")
    return version
