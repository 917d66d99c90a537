"""Computing: the value of a key that is missing, once for the whole cluster.

Here lives get_or_compute. Never here: running the caller's function or sharing one computation among threads or tasks (the
bodies do, by the effects ``Load`` and ``Share``), or who gets a lease (the node). ::

    read --fresh--------------------------------------------------------> value
      |missing, or past its soft expiry
    Share: is this process at it already? --yes, and a stale value is at hand--> that
      |no                                  `--yes--> wait for what comes of it
    LEASE at the owner that decides --a record--------------------------> value   (somebody else has computed it meanwhile)
      |granted               `--no node, or waited in vain: without a lease, and nothing is kept
    Load: the caller's function --raises--> RELEASE, the stale value if there is one, else the error
      |
    FILL --void: the key was changed meanwhile--> value, not kept
      `--kept--> copy to the other owners ------> value

Nobody waits longer than a lease for any one holder, nor for more than two. A cache must not break its application: where no node
can be reached, the function is called all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from kvcache_client.core.answers import REROUTE, as_error
from kvcache_client.core.brain import Brain
from kvcache_client.core.deciding import decide
from kvcache_client.core.durations import Duration, Ttl, seconds_in
from kvcache_client.core.effects import REFRESH, Load, Parting, Plan, Share, Within
from kvcache_client.core.reading import read
from kvcache_client.core.space import Space
from kvcache_client.core.writing import copy
from kvcache_client.protocol.codec import Key, Value
from kvcache_client.protocol.errors import InDoubt, InvalidOption, NotApplied, UsageError, ValueTooLarge
from kvcache_client.protocol.record import NEVER, make_record, restamp, soft, stale_from, unsoftened
from kvcache_client.protocol.shown import shown
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["Recipe", "get_or_compute", "recipe_of"]

_HOLDERS: Final = 2
"""How many holders of the lease in a row somebody waits for."""

_UNREACHABLE: Final = (NotApplied, InDoubt)
"""What says that the cluster does not answer, and nothing about the call."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a computed value is kept; times in seconds."""

    ttl: float | None
    stale: float
    jitter: float
    negative_ttl: float | None
    lease: float


def recipe_of(
    brain: Brain,
    ttl: Ttl,
    stale: Duration | None,
    jitter: float,
    negative_ttl: Duration | None,
    lease: Duration | None,
) -> Recipe:
    """Return what these options come to. Raises ``InvalidTtl`` or ``InvalidOption``, which names the option or both."""
    if type(jitter) not in (int, float) or not 0 <= jitter <= 1:  # also false for NaN
        raise InvalidOption(f"jitter={shown(jitter, 40)}: must be a share of ttl, from 0 to 1")
    for option, value in (("stale", stale or None), ("jitter", jitter or None)):
        if ttl is None and value is not None:
            raise InvalidOption(f"{option}={shown(value, 40)} contradicts ttl=None: what never expires is never stale")
    longest = brain.config.lease if lease is None else seconds_in("lease", lease)
    if not 0.01 <= longest <= 3600:
        raise InvalidOption(f"lease={shown(lease, 40)}: must be 0.01 to 3600 seconds")
    return Recipe(
        None if ttl is None else seconds_in("ttl", ttl),
        0.0 if stale is None or stale == 0 else seconds_in("stale", stale),
        float(jitter),
        None if negative_ttl is None else seconds_in("negative_ttl", negative_ttl),
        longest,
    )


def get_or_compute(brain: Brain, space: Space, key: Key, load: Callable[[], Any], recipe: Recipe) -> Plan[Value]:
    """Return the value of the key, computed by ``load`` if nobody has it, and then kept as ``recipe`` says."""
    if not callable(load):
        raise InvalidOption(f"load={shown(load, 60)}: must be a function that returns the value")
    name = space.name_of(key)
    try:
        record: bytes | None = yield from read(brain, space, key, bytes, None)
    except _UNREACHABLE:
        record = None
    stale: bytes | None = None
    if record is not None:
        if brain.hlc.now_ms() < stale_from(record):
            return space.decode(unsoftened(record))
        stale = record
    work = _Work(brain, space, key, name, load, recipe, stale)
    for last in (False, True):
        shared = yield Share(name, work.compute, recipe.lease, wait=stale is None)
        if shared is None and stale is not None:  # this process is refreshing it already
            return work.serve_stale(stale)
        # A computation that began before this call, and during which the key was changed, may know nothing of a change that this
        # call's caller knows of. The next one began later than this call.
        if shared is None or not (shared.mine or last or shared.error or shared.value.valid):
            continue
        brain.counters.waits += not shared.mine
        if shared.error is not None:
            raise shared.error
        return space.decode(shared.value.record)
    computed = yield from work.compute(Parting())
    return space.decode(computed.record)


class _Computed(NamedTuple):
    """A value as a record without version and expiry; ``valid`` unless the key was changed during the computation."""

    record: bytes
    valid: bool = True


class _Work:
    """One call's part in computing a value."""

    def __init__(
        self,
        brain: Brain,
        space: Space,
        key: Key,
        name: bytes,
        load: Callable[[], Any],
        recipe: Recipe,
        stale: bytes | None,
    ) -> None:
        self._brain = brain
        self._space = space
        self._key = key
        self._name = name
        self._load = load
        self._recipe = recipe
        self._stale = stale

    def serve_stale(self, record: bytes) -> Value:
        """Return the value of a record past its soft expiry."""
        self._brain.counters.stale_served += 1
        return self._space.decode(unsoftened(record))

    def compute(self, parting: Parting) -> Plan[_Computed]:
        """Return what is computed here or elsewhere; if that fails, a value past its soft expiry where there is one."""
        try:
            return (yield from self._compute(parting))
        except UsageError:
            raise
        except Exception:
            if self._stale is None:
                raise
            self._brain.counters.stale_served += 1
            return _Computed(unsoftened(self._stale))

    def _compute(self, parting: Parting) -> Plan[_Computed]:
        """Get the lease, compute, fill in; or take what another process has computed."""
        brain, name, token = self._brain, self._name, self._brain.operation()
        lease_ms = max(int(self._recipe.lease * 1000), 10)
        parting.ask = [0, Verb.RELEASE, name, token]
        parting.nodes = brain.view.owners_of(name) if brain.view else ()
        try:
            decided = yield from decide(
                brain,
                name,
                lambda view: [0, Verb.LEASE, view.epoch, name, token, lease_ms],
                token,
                repeatable=True,
                patience=_HOLDERS * self._recipe.lease,
            )
        except _UNREACHABLE:
            return (yield from self._compute_alone())
        status = decided.reply[1]
        record = decided.reply[2] if len(decided.reply) > 2 and isinstance(decided.reply[2], bytes) else None
        if status == Status.OK and record is not None:
            parting.nodes = ()
            if brain.hlc.now_ms() >= stale_from(record):
                brain.counters.stale_served += 1
            else:
                brain.counters.waits += 1
            return _Computed(unsoftened(record))
        if status != Status.GRANTED:
            parting.nodes = ()
            return (yield from self._compute_alone())
        parting.nodes = (decided.node,)
        self._stale = record or self._stale
        computed = yield from self._compute_under(decided.node, token)
        parting.nodes = ()
        return computed

    def _compute_alone(self) -> Plan[_Computed]:
        """No lease is to be had: compute all the same; nothing is kept, for others may be at it too."""
        self._brain.counters.computed_alone += 1
        _, computed = yield from self._loaded()
        return _Computed(computed)

    def _compute_under(self, node: str, token: int) -> Plan[_Computed]:
        brain = self._brain
        try:
            value, computed = yield from self._loaded()
        except Exception:
            yield Within([(node, [0, Verb.RELEASE, self._name, token])], brain.attempt)
            raise
        valid = yield from self._fill(node, token, self._as_kept(value is None, computed))
        return _Computed(computed, valid)

    def _loaded(self) -> Plan[tuple[Value, bytes]]:
        """Call the caller's function; returns the value and its record. Raises what it raises."""
        brain = self._brain
        loaded = yield Load(self._load)
        if loaded.error is not None:
            brain.counters.failed_computations += 1
            raise loaded.error
        brain.counters.computations += 1
        flags, payload = self._space.encode(loaded.value)
        limit = brain.config.value_limit
        if len(payload) > limit:
            raise ValueTooLarge(
                f"the computed value of {self._key!r:.80} has {len(payload)} bytes, the limit is {limit}", detail=limit
            )
        return loaded.value, make_record(0, NEVER, flags, payload)

    def _as_kept(self, negative: bool, computed: bytes) -> bytes:
        """Return the record with its expiries. Jitter only shortens a life, so that ``ttl`` stays the longest."""
        recipe = self._recipe
        ttl, stale = recipe.ttl, recipe.stale
        if negative and recipe.negative_ttl is not None:
            ttl, stale = recipe.negative_ttl, 0.0
        if ttl is None:
            return computed
        life_ms = max(int(ttl * (1.0 - recipe.jitter * self._brain.draw()) * 1000), 1)
        fresh_to = self._brain.hlc.now_ms() + life_ms
        flags, payload = computed[14], computed[15:]
        if not stale:
            return make_record(0, fresh_to, flags, payload)
        return make_record(0, fresh_to + int(stale * 1000), *soft(fresh_to, flags, payload))

    def _fill(self, node: str, token: int, record: bytes) -> Plan[bool]:
        """Have the node keep the value and give it to all who wait; what fails here costs nothing but the next computation.

        Returns whether the value is still one to go by: False if the lease had ended, by a change of the key or by time.
        """
        brain, name = self._brain, self._name
        began = brain.clock()
        for last in (False, True):
            request = [0, Verb.FILL, brain.require_view().epoch, name, token, record]
            (outcome,) = yield Within([(node, request)], brain.attempt)
            error = as_error(outcome, node, Verb.FILL)
            if last or not isinstance(error, REROUTE):
                break
            yield REFRESH  # the cluster may have changed during the computation
        if error is not None:
            yield Within([(node, [0, Verb.RELEASE, name, token])], brain.attempt)
        if error is not None or outcome[1] != Status.OK:
            brain.counters.void_fills += 1
            return error is not None
        try:
            yield from copy(brain, name, restamp(record, outcome[2]), node, brain.clock() - began)
        except _UNREACHABLE:
            brain.counters.void_fills += 1
        return True
