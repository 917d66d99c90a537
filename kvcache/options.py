"""Node options: one table that the command line, the environment and the configuration file all read.

Here lives what can be set on a node, its bounds and its default. Never here: how a value is read
(``option_values``), the command line itself (``commands``), or a decision that an option leads to (``node``).

An option is named once, as a field of ``NodeOptions`` and a row of ``OPTIONS``; its other names follow from
that: ``memory`` is ``--memory`` on the command line, ``KVCACHE_MEMORY`` in the environment and ``memory`` in
a TOML file. The command line goes before the environment, the environment before the file, the file before
the default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from kvcache import option_values as read
from kvcache.logs import FORMATS, LEVELS
from kvcache_client.core.busy_polling import POLLING_SECONDS
from kvcache_client.placement.topology import MAX_REPLICATION_FACTOR, MAX_WEIGHT, Member
from kvcache_client.protocol.errors import InvalidOption, TopologyError
from kvcache_client.protocol.limits import VALUE_BYTES, VALUE_BYTES_CAP

__all__ = [
    "CONFIG_VARIABLE",
    "OPTIONS",
    "NodeOptions",
    "Option",
    "load_options",
    "parse_option",
    "read_config",
    "resolve_options",
]

CONFIG_VARIABLE: Final = "KVCACHE_CONFIG"
"""Where the path of the configuration file may stand when ``--config`` is not given."""

MEMORY_MIN: Final = 1 << 20
MEMORY_MAX: Final = 1 << 50


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table."""

    name: str
    parse: Callable[[object], Any]
    metavar: str
    help: str

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return "KVCACHE_" + self.name.upper()


_ADDRESS: Final = "HOST:PORT"
_MEMORY: Final = read.within(MEMORY_MIN, MEMORY_MAX, read.parse_size)
_VALUE: Final = read.within(1, VALUE_BYTES_CAP, read.parse_size)
_WEIGHT: Final = read.within(1, MAX_WEIGHT, read.parse_integer)
_COPIES: Final = read.within(1, MAX_REPLICATION_FACTOR, read.parse_integer)
_CONNECTIONS: Final = read.within(1, 1_000_000, read.parse_integer)
_LOG_LEVEL: Final = read.parse_choice(*LEVELS)
_LOG_FORMAT: Final = read.parse_choice(*FORMATS)
_SLOW_MS: Final = read.within(0, 3_600_000, read.parse_integer)
_POLLING: Final = read.within(0, POLLING_SECONDS, read.parse_seconds)

OPTIONS: Final[Mapping[str, Option]] = {
    row.name: row
    for row in (
        Option("listen", read.parse_listening, _ADDRESS, "Where the node listens; port 0 takes a free one."),
        Option("advertise", read.parse_advertised, _ADDRESS, "Where others reach it, if not at --listen."),
        Option("id", read.parse_name_or_nothing, "ID", "Its lasting name, if not made of --advertise."),
        Option("zone", read.parse_name_or_nothing, "ZONE", "What fails together; copies avoid sharing one."),
        Option("weight", _WEIGHT, "N", "Its share of the keys, relative to the other nodes."),
        Option("memory", _MEMORY, "SIZE", "Memory for records, such as 256MiB or 4GiB."),
        Option("coordinator", read.parse_coordinator, "URL", "Redis or Valkey; without it the node is alone."),
        Option("cluster", read.parse_name, "NAME", "The cluster's name."),
        Option("replication_factor", _COPIES, "N", "Copies of each key, if this node founds the cluster."),
        Option("max_connections", _CONNECTIONS, "N", "Connections that the node accepts at once."),
        Option("limits", read.parse_text, "NAME=N,...", "Other limits of the port; LIMITS.md lists them."),
        Option("value_limit", _VALUE, "SIZE", "The largest value that the node takes."),
        Option(
            "secret_file", read.parse_path, "FILE", "The secrets that are asked for; else KVCACHE_SECRET holds one."
        ),
        Option("tls_certificate", read.parse_path, "FILE", "Its certificate (PEM); with it the port speaks TLS only."),
        Option("tls_key", read.parse_path, "FILE", "The key of the certificate, if not in the same file."),
        Option("tls_ca", read.parse_path, "FILE", "Who signs the nodes' certificates, if not a CA of the system."),
        Option("tls_client_ca", read.parse_path, "FILE", "Who signs those that clients and nodes must show, if any."),
        Option("log_level", _LOG_LEVEL, "LEVEL", "One of debug, info, warning, error; SIGUSR1 and SIGUSR2 step it."),
        Option("log_format", _LOG_FORMAT, "FORMAT", "One of text, json."),
        Option("slow_ms", _SLOW_MS, "MS", "A request that takes longer is told in the log; 0 is never."),
        Option("busy_polling", _POLLING, "SECONDS", "How long it may look for more before it sleeps; 0 is never."),
    )
}
"""Every option of a node, in the order of ``NodeOptions``."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a node is told at its start. Every field is checked; ``InvalidOption`` names it and its limit.

    ``advertise`` and ``id`` are filled in from ``listen`` when they are empty; if ``listen`` has port 0, they
    stay empty until ``bound_to`` tells the port.
    """

    listen: str = "127.0.0.1:7700"
    advertise: str = ""
    id: str = ""
    zone: str = ""
    weight: int = 1
    memory: int = 256 << 20
    """Bytes of memory for records."""
    coordinator: str | None = field(default=None, repr=False)
    """The URL of Redis or Valkey (it may hold a password); None is a standalone cluster of one node."""
    cluster: str = "default"
    replication_factor: int = 2
    max_connections: int = 10_000
    limits: str = ""
    value_limit: int = VALUE_BYTES
    """Bytes of the largest payload."""
    secret_file: str = ""
    """Where the secrets are; they are never an option themselves, for every user of a machine sees its command lines."""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    tls_client_ca: str = ""
    log_level: str = "info"
    log_format: str = "text"
    slow_ms: int = 100
    """Milliseconds of the event loop that one request may take before the log tells of it."""
    busy_polling: float = 0.0001
    """For how long the event loop stays awake after its replies, where that pays; never with one core."""

    def __post_init__(self) -> None:
        for option in OPTIONS.values():
            self._fill(option.name, parse_option(option, getattr(self, option.name), option.name))
        if self.value_limit > self.memory:
            raise InvalidOption(f"value_limit {self.value_limit} is over memory {self.memory}")
        for name in ("tls_key", "tls_ca", "tls_client_ca"):
            if getattr(self, name) and not self.tls_certificate:
                raise InvalidOption(f"{name} is set without tls_certificate, so the port would not speak TLS")
        host, port = read.parse_address(self.listen)
        if not self.advertise and host in read.WILDCARD_HOSTS:
            raise InvalidOption(f"listen {self.listen!r} is every address: set advertise to the one to reach it by")
        if not self.advertise and port:
            self._fill("advertise", self.listen)
        if not self.id and self.advertise:
            self._fill("id", "node-" + re.sub(r"[^A-Za-z0-9_.]+", "-", self.advertise).strip("-")[-59:])
        if self.advertise:
            self._check_member()

    def bound_to(self, port: int) -> NodeOptions:
        """Return the options of a node whose listening socket got ``port``."""
        return replace(self, listen=f"{self.listen.rpartition(':')[0]}:{port}")

    def member(self, *, incarnation: str, state: str = "up") -> Member:
        """Return this node as the topology document lists it; ``advertise`` must be known."""
        return Member(
            id=self.id,
            address=self.advertise,
            zone=self.zone,
            weight=self.weight,
            state=state,
            incarnation=incarnation,
        )

    def _check_member(self) -> None:
        try:
            self.member(incarnation="")
        except TopologyError as error:
            raise InvalidOption(f"the cluster cannot list this node: {error}") from error

    def _fill(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # only while the object is being made


def parse_option(option: Option, raw: object, where: str) -> Any:
    """Return the value of ``option`` that ``raw`` says. Raises ``InvalidOption``, which begins with ``where``."""
    try:
        return option.parse(raw)
    except ValueError as error:
        raise InvalidOption(f"{where}: {error}") from error


def resolve_options(
    command_line: Mapping[str, object],
    environment: Mapping[str, str],
    file: Mapping[str, object],
    *,
    path: str = "the file",
) -> NodeOptions:
    """Return the options, each from the first source that has it; None on the command line is "not given".

    Raises ``InvalidOption``, which names the option as its source does.
    """
    values: dict[str, Any] = {}
    for option in OPTIONS.values():
        sources = (
            (option.flag, command_line.get(option.name)),
            (option.variable, environment.get(option.variable)),
            (f"{option.name} in {path}", file.get(option.name)),
        )
        for where, raw in sources:
            if raw is not None:
                values[option.name] = parse_option(option, raw, where)
                break
    return NodeOptions(**values)


def read_config(path: str) -> dict[str, object]:
    """Return the options in a TOML file. Raises ``InvalidOption``, also for a name that is no option."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidOption(f"cannot read the configuration file {path}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise InvalidOption(f"the configuration file {path} is not valid TOML: {error}") from error
    for name in document:
        if name not in OPTIONS:
            near = get_close_matches(name, OPTIONS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(OPTIONS)}"
            raise InvalidOption(f"{path} sets {name!r}, which is no option; {hint}")
    return document


def load_options(
    command_line: Mapping[str, object], environment: Mapping[str, str], config: str | None = None
) -> NodeOptions:
    """Return the options from all sources; ``config`` or else ``KVCACHE_CONFIG`` names the file, if any."""
    path = config or environment.get(CONFIG_VARIABLE)
    if not path:
        return resolve_options(command_line, environment, {})
    return resolve_options(command_line, environment, read_config(path), path=path)


if tuple(OPTIONS) != tuple(entry.name for entry in fields(NodeOptions)):
    raise TypeError("OPTIONS and the fields of NodeOptions must name the same options in the same order")
