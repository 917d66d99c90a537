"""The options of a client.

Here lives what a caller may set, with the limits and the defaults. Never here: what an option does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kvcache_client.core.balancing import DEFAULT, Balancing, check_balancing
from kvcache_client.core.busy_polling import POLLING_SECONDS
from kvcache_client.core.consistency import Acks, check_acks, check_level
from kvcache_client.core.kinds import FLAG, INTRODUCTION, LABEL, NUMBER, WHOLE, Kind, check_kinds, instance
from kvcache_client.core.retry import Backoff
from kvcache_client.core.tls import Tls
from kvcache_client.core.values import ValueForm
from kvcache_client.protocol.auth import NO_SECRETS, Secrets
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.limits import VALUE_BYTES, VALUE_BYTES_CAP
from kvcache_client.protocol.serializers import Serializer
from kvcache_client.protocol.shown import shown
from kvcache_client.protocol.verbs import Role

__all__ = ["ClientConfig", "configured"]

_SECONDS: Final = 3600

_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("timeout", "connect_timeout", "busy_polling", "lease"), NUMBER),
    **dict.fromkeys(("fail_open", "hedging", "trace_keys"), FLAG),
    **dict.fromkeys(("cluster", "zone"), LABEL),
    "name": INTRODUCTION,
    "value_limit": WHOLE,
    "role": instance(Role, f"a Role: {', '.join(role.name for role in Role)}"),
    "secrets": instance(Secrets, "the Secrets that parse_secrets returns", hidden=True),
    "tls": instance(Tls, "a Tls or None", or_none=True),
    "backoff": instance(Backoff, "a Backoff"),
}
"""What each option may be; the others are checked by whoever knows what they mean."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What a caller may set; times in seconds, sizes in bytes."""

    timeout: float = 0.25
    """What one call may take in all, fail-over and hedges included."""
    connect_timeout: float = 0.5
    """What reaching the first seed or a node may take."""
    acks: Acks = 2
    """Live processes that must hold a write before it is acknowledged, as far as the replication factor goes; or the level
    ("one", "quorum", "all") that its owners must reach."""
    cluster: str = ""
    """The name that the cluster must have; empty takes any."""
    fail_open: bool = False
    """Whether a call that no node can answer is a miss, or a write without effect, instead of an error."""
    consistency: str = "one"
    """How many owners a read asks: "one", "quorum" or "all"."""
    balancing: str | Balancing = DEFAULT
    """Which owner a read asks: the name of a policy, or one of your own."""
    zone: str = ""
    """Where this client is; the policy ``nearest_zone`` prefers owners in the same zone."""
    hedging: bool = True
    """Whether a read that takes longer than usual is asked of a second owner too; at most 5 % more requests."""
    busy_polling: float = 0.00005
    """For how long a wait for an answer may keep a core busy before it sleeps, where that pays; 0: not at all."""
    lease: float = 5.0
    """What a computation for ``get_or_compute`` may take before the next caller is asked to do it."""
    value_limit: int = VALUE_BYTES
    """Largest payload that is sent."""
    role: Role = Role.CLIENT
    secrets: Secrets = NO_SECRETS
    """By which to show that this client may have its role; it then speaks to no node that does not know the secret too."""
    tls: Tls | None = None
    """How connections are encrypted; None: not at all."""
    name: str = ""
    """How this client introduces itself to nodes."""
    serializer: str | Serializer = "msgpack"
    """How values are written: ``msgpack``, ``json``, ``bytes``, or an object with ``name``, ``dumps`` and ``loads``."""
    serializers: tuple[Serializer, ...] = ()
    """Further ones, for reading what others wrote."""
    compression: str | None = None
    """``zstd`` or ``lz4`` for large payloads, each an extra of the package; compressed values are always read."""
    compress_over: int | None = None
    """Compress payloads of more bytes than this, 1024 by default; kept only if it made them smaller."""
    expanded_limit: int = VALUE_BYTES_CAP
    """Bytes that a payload may have before it is compressed, and after it is expanded."""
    tracing: Any = False
    """True for one OpenTelemetry span per call (an extra of the package), or the tracer that makes them."""
    trace_keys: bool = False
    """Whether spans hold keys in clear; a key may be nobody's business."""
    backoff: Backoff = field(default_factory=Backoff)
    """How long a node that can't be reached is left alone."""

    def __post_init__(self) -> None:
        check_kinds(self, _KINDS)
        for option, seconds in (("timeout", self.timeout), ("connect_timeout", self.connect_timeout)):
            if not 0 < seconds < _SECONDS:  # also false for NaN
                raise InvalidOption(f"{option}={shown(seconds)}: must be over 0 and below {_SECONDS} seconds")
        if not 0 <= self.busy_polling <= POLLING_SECONDS:
            raise InvalidOption(f"busy_polling={shown(self.busy_polling)}: must be 0 to {POLLING_SECONDS} seconds")
        if not 0.01 <= self.lease <= _SECONDS:
            raise InvalidOption(f"lease={shown(self.lease)}: must be 0.01 to {_SECONDS} seconds")
        check_acks(self.acks)
        check_level(self.consistency)
        check_balancing(self.balancing, self.zone)
        if not 0 < self.value_limit <= VALUE_BYTES_CAP:
            raise InvalidOption(f"value_limit={shown(self.value_limit)}: must be 1 to {VALUE_BYTES_CAP} bytes")
        if self.trace_keys and self.tracing is False:
            raise InvalidOption("trace_keys=True and tracing=False contradict each other: there are no spans")
        self.value_form()

    def value_form(self) -> ValueForm:
        """Return the form of values that these options ask for. Raises ``InvalidOption``."""
        return ValueForm(self.serializer, self.serializers, self.compression, self.compress_over, self.expanded_limit)


def configured(config: ClientConfig | None, named: str = "", **options: Any) -> ClientConfig:
    """Return ``config`` with what was given beside it; None leaves an option as it is.

    ``named`` is the cluster that the seeds name. Raises ``InvalidOption`` that names both, where two contradict each other.
    """
    given = {option: value for option, value in options.items() if value is not None}
    if named:
        if given.get("cluster", named) != named:
            raise InvalidOption(
                f"cluster={shown(given['cluster'])} contradicts the cluster in the seeds, {shown(named)}"
            )
        given["cluster"] = named
    if config is None:
        return ClientConfig(**given)
    if not isinstance(config, ClientConfig):
        raise InvalidOption(f"config of type {type(config).__name__}: must be a ClientConfig")
    unset = ClientConfig()
    for option, value in given.items():
        held = getattr(config, option)
        if held not in (value, getattr(unset, option)):
            raise InvalidOption(
                f"{option}={shown(value)} contradicts config={type(config).__name__}({option}={shown(held)})"
            )
    return replace(config, **given)
