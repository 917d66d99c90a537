"""Several copies of one key: who may be believed, what the newest is, who is behind.

Here lives reading more than one node for the same key. Never here: which single owner an ordinary read asks (``reading``).
PEEK shows tombstones, so that a deletion which one owner has missed stays a deletion; owners that turn out to be behind are
brought up to date before the read returns, so that no later one sees what is older.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from kvcache_client.core.answers import (
    REROUTE,
    as_error,
    before_rerouting,
    blame,
    may_repeat,
    may_reroute,
    time_left,
    why_unavailable,
)
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import copies_needed
from kvcache_client.core.effects import REFRESH, Ask, Plan, Within
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import hidden_to, hides
from kvcache_client.protocol.errors import (
    ConnectFailed,
    ConnectionLost,
    InDoubt,
    KvCacheError,
    NoAnswer,
    NotApplied,
    NotReady,
    TooFewCopies,
)
from kvcache_client.protocol.record import is_tombstone, version_of
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["ask_copies", "heal", "missing_owners", "read_at_level"]

_MORE: Final = 2
"""Stand-ins beyond those that this client would write to: others may have thought some of them away."""


def missing_owners(brain: Brain, view: View, partition: int, failures: dict[str, KvCacheError]) -> list[str]:
    """Return the owners that can't be asked, so that what they should hold may lie elsewhere."""
    return [node for node in view.owners[partition] if node in brain.down or node in failures]


def ask_copies(
    brain: Brain,
    view: View,
    name: bytes,
    partition: int,
    failures: dict[str, KvCacheError],
    answered: bool,
    deadline: float,
    *,
    paid: bool = False,
) -> Plan[bytes | None]:
    """Ask every node that may hold a copy, stand-ins included; the newest wins, a tombstone is a miss."""
    missing = missing_owners(brain, view, partition, failures)
    nodes = _holders(brain, view, name, partition, failures, missing, answered)
    held: dict[str, bytes] = {}
    if nodes and brain.clock() < deadline:
        # Silent nodes may just have too much to do: a call that nobody was asked for yet must not become several for nothing.
        silent = not answered and not failures and _all_silent(brain, view, partition)
        if not (brain.retry(2 * len(nodes)) if silent else may_repeat(brain, failures, len(nodes), paid=paid)):
            raise why_unavailable(brain, view, partition, failures)
        held = yield from _look(brain, view.owners[partition], nodes, name, failures, deadline)
        answered = answered or any(node in held and node not in failures for node in view.owners[partition])
        if not answered and _may_lie_elsewhere(view.owners[partition], nodes, held, failures):
            raise why_unavailable(brain, view, partition, failures)
    newest = _newest_seen(brain, name, held)
    if _is_outdated(brain, name, newest) and brain.clock() + brain.attempt <= deadline:
        yield REFRESH  # perhaps a flush has taken it, of which only the newest topology tells
        newest = _newest_seen(brain, name, held)
    if _is_outdated(brain, name, newest):
        if missing:
            raise why_unavailable(brain, view, partition, failures)
        return None  # what this client wrote is gone from everywhere; what is older must not be taken for it
    if newest:
        yield from _bring_up(brain, view, partition, name, newest, held, deadline)
        return None if is_tombstone(newest) else newest
    if answered:
        return None
    raise why_unavailable(brain, view, partition, failures)


def _all_silent(brain: Brain, view: View, partition: int) -> bool:
    """Say whether every owner is left alone because it was silent, and not because it was gone."""
    entries = [brain.down.get(node) for node in view.owners[partition]]
    return all(entry is not None and isinstance(entry.reason, NoAnswer) for entry in entries)


def _look(
    brain: Brain,
    owners: Sequence[str],
    nodes: Sequence[str],
    name: bytes,
    failures: dict[str, KvCacheError],
    deadline: float,
) -> Plan[dict[str, bytes]]:
    """Return what each of ``nodes`` holds, b"" for nothing; those that don't answer for it are noted in ``failures``.

    HEAD tells whether an owner answers for the partition at all. One that has restarted empty, or was away and does not know
    yet what it has missed, does not: what PEEK shows of it is a copy like any other, perhaps an old one.
    """
    asks: list[Ask] = [(node, [0, verb, name]) for node in nodes for verb in _shown_by(node in owners)]
    outcomes = iter((yield Within(asks, time_left(brain, deadline))))
    held: dict[str, bytes] = {}
    for node in nodes:
        answers = [(verb, next(outcomes)) for verb in _shown_by(node in owners)]
        refusals = [error for verb, answer in answers if (error := as_error(answer, node, verb)) is not None]
        if refusals:
            failures[node] = refusals[0]
        else:
            failures.pop(node, None)
        verb, peek = answers[-1]
        if as_error(peek, node, verb) is None:
            held[node] = peek[2] if peek[1] == Status.OK else b""
    return held


def _may_lie_elsewhere(
    owners: Sequence[str], nodes: Sequence[str], held: Mapping[str, bytes], failures: Mapping[str, KvCacheError]
) -> bool:
    """Say whether an acknowledged write may lie where nobody has told of it, while no owner answers for the key.

    It went to some stand-in, and others may still keep what is older for an owner that is gone: so all of them must be heard,
    but for those that have no process any more, and have nothing. A silent owner has only what some stand-in has, too.
    """
    unheard = [(node in owners, failures[node]) for node in nodes if node not in held]
    return any(isinstance(why, NotReady) if own else not isinstance(why, ConnectFailed) for own, why in unheard)


def _shown_by(owner: bool) -> tuple[Verb, ...]:
    return (Verb.HEAD, Verb.PEEK) if owner else (Verb.PEEK,)


def _holders(
    brain: Brain,
    view: View,
    name: bytes,
    partition: int,
    failures: dict[str, KvCacheError],
    missing: list[str],
    answered: bool,
) -> list[str]:
    """Return the nodes that may hold a copy of a key, those that can be asked."""
    well = [node for node in view.owners[partition] if node not in missing]
    behind = brain.lagging.of(partition, name).intersection(well)
    stand_ins = list(islice(_well_stand_ins(brain, view, partition), len(missing) + len(behind)))
    # Nobody else left: an owner in its back-off gets its chance too.
    last_resort = [] if answered else [node for node in missing if node not in failures]
    # That an old connection broke says little about the node behind it: once more, on a new one.
    again = [node for node in missing if isinstance(failures.get(node), ConnectionLost)]
    away = [node for node in missing if isinstance(failures.get(node), NotReady)]
    if away and not answered:  # what it has is a copy all the same; what it has missed others keep, perhaps several
        again += away
        stand_ins = list(islice(_stand_ins_with_a_process(brain, view, partition), len(missing) + _MORE))
    return [*well, *view.moving_to_or_from(partition), *stand_ins, *last_resort, *again]


def _well_stand_ins(brain: Brain, view: View, partition: int) -> Iterator[str]:
    return (node for node in view.stand_ins(partition) if node not in brain.down)


def _stand_ins_with_a_process(brain: Brain, view: View, partition: int) -> Iterator[str]:
    """Yield those stand-ins, too, that this client has heard nothing of for a while: others may have written there."""
    for node in view.stand_ins(partition):
        entry = brain.down.get(node)
        if entry is None or not isinstance(entry.reason, ConnectFailed):
            yield node


def _newest_seen(brain: Brain, name: bytes, held: Mapping[str, bytes]) -> bytes:
    """Return the newest of some copies, b"" for none. Not every node has heard of each flush that this client knows of."""
    generations = brain.require_view().topology.generations
    return max((record for record in held.values() if record and not hides(generations, name, record)), default=b"")


def _is_outdated(brain: Brain, name: bytes, newest: bytes) -> bool:
    """Say whether this client knows of a newer version than the newest that was found."""
    hidden = hidden_to(brain.require_view().topology.generations, name)
    return brain.lagging.version(name) > max(hidden, version_of(newest) if newest else 0)


def _bring_up(
    brain: Brain, view: View, partition: int, name: bytes, newest: bytes, held: dict[str, bytes], deadline: float
) -> Plan[None]:
    """Bring the newest record, version and expiry as they are, to owners that answered with something older."""
    current = [node for node, record in held.items() if record == newest]
    behind = [node for node in view.owners[partition] if node in held and held[node] < newest]
    if behind and brain.clock() < deadline:
        brain.counters.repaired_copies += len(behind)
        asks: list[Ask] = [(node, [0, Verb.PUT, view.epoch, name, newest]) for node in behind]
        outcomes = yield Within(asks, time_left(brain, deadline))
        repaired = zip(behind, outcomes, strict=True)
        current += [node for node, outcome in repaired if as_error(outcome, node, Verb.PUT) is None]
    if brain.behind:
        brain.lagging.caught_up(name, version_of(newest), current)


def heal(brain: Brain, view: View, partition: int, name: bytes, record: bytes) -> Plan[None]:
    """Bring a record to the owners that may lack it, those that can be reached, so that they are believed again."""
    behind = {node: b"" for node in brain.lagging.of(partition, name) if node not in brain.down}
    yield from _bring_up(brain, view, partition, name, record, behind, brain.clock() + brain.attempt)


def read_at_level(brain: Brain, name: bytes, level: str, spent: float = 0.0) -> Plan[bytes | None]:
    """Return the newest record that ``level`` of the owners hold. Raises ``TooFewCopies`` if so many can't be asked.

    ``spent`` is what of the call's time (seconds) has gone by already.
    """
    deadline = brain.clock() + brain.config.timeout - spent
    while True:
        view = brain.require_view()
        partition = view.partition(name)
        failures: dict[str, KvCacheError] = {}
        held = yield from _ask_enough(brain, view, partition, name, level, failures, deadline)
        newest = max(held.values(), default=b"")
        if len(held) >= copies_needed(level, len(view.owners[partition])):
            if newest:
                yield from _bring_up(brain, view, partition, name, newest, held, deadline)
            return newest if newest and not is_tombstone(newest) else None
        if any(isinstance(error, REROUTE) for error in failures.values()) and may_reroute(brain, deadline, failures):
            yield from before_rerouting(brain, deadline, failures)
            if brain.clock() < deadline:
                continue
        raise _too_few(brain, view, partition, level, len(held), failures)


def _ask_enough(
    brain: Brain,
    view: View,
    partition: int,
    name: bytes,
    level: str,
    failures: dict[str, KvCacheError],
    deadline: float,
) -> Plan[dict[str, bytes]]:
    """Ask as many owners as the level takes, others in place of those that fail; returns what each holds.

    HEAD tells whether an owner answers for the partition at all (one that still loads does not), PEEK what it holds.
    """
    owners = view.owners[partition]
    needed = copies_needed(level, len(owners))
    left = sorted(owners, key=lambda node: (node in brain.down) * 2 + (node in brain.avoided))
    held: dict[str, bytes] = {}
    while left and len(held) < needed and brain.clock() < deadline and may_repeat(brain, failures):
        nodes, left = left[: needed - len(held)], left[needed - len(held) :]
        asks: list[Ask] = [(node, [0, verb, name]) for node in nodes for verb in (Verb.HEAD, Verb.PEEK)]
        seconds = time_left(brain, deadline)
        outcomes = yield Within(asks, seconds)
        for node, head, peek in zip(nodes, outcomes[::2], outcomes[1::2], strict=True):
            refusal = as_error(head, node, Verb.HEAD) or as_error(peek, node, Verb.PEEK)
            if refusal is None:
                held[node] = peek[2] if peek[1] == Status.OK else b""
            else:
                failures[node] = refusal
                blame(brain, node, refusal, seconds)
    return held


def _too_few(
    brain: Brain, view: View, partition: int, level: str, answered: int, failures: dict[str, KvCacheError]
) -> KvCacheError:
    for error in failures.values():
        if not isinstance(error, NotApplied | InDoubt):
            return error  # the node understood and refused: no other will say otherwise
    needed = copies_needed(level, len(view.owners[partition]))
    cause = why_unavailable(brain, view, partition, failures)
    return TooFewCopies(f"consistency {level!r} takes {needed} owners, {answered} answered: {cause}", detail=partition)
