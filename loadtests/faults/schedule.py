"""The schedule of faults: what breaks, when, whom.

Here lives the form of ``faults.toml`` and its checks. Never here: breaking anything (``plays``). ::

    [[fault]]
    at = 10            # seconds after the users began, or "50%" of --run-time
    do = "kill"        # see KINDS
    node = "n2"
    for = 5            # seconds until it is undone
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["KINDS", "Fault", "Kind", "load_faults", "parse_faults"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a fault is and which fields it takes; ``must`` are those that it can't do without."""

    text: str
    must: frozenset[str]
    may: frozenset[str] = frozenset()


def _fields(*names: str) -> frozenset[str]:
    return frozenset(names)


KINDS: Final[Mapping[str, Kind]] = {
    "kill": Kind("kill -9; with `for` it is started again after so long, empty", _fields("node"), _fields("for")),
    "stop": Kind("SIGSTOP, and SIGCONT after `for` seconds", _fields("node", "for")),
    "restart": Kind("stop it as an operator does, and start it again", _fields("node")),
    "delay": Kind("everything to and from it takes `by` seconds longer, for `for`", _fields("node", "for", "by")),
    "cut": Kind("nothing gets to it or from it, for `for` seconds", _fields("node", "for")),
    "add": Kind("one more node joins", _fields()),
    "drain": Kind("it hands over what it holds and leaves", _fields("node")),
    "redis-down": Kind("kill -9 of Redis; started again, empty, after `for` seconds", _fields("for")),
}
"""``do`` -> what it is."""

_SECONDS_AT_MOST: Final = 86_400.0
_PROXIED: Final = frozenset({"delay", "cut"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; times are seconds, ``at`` from the moment at which the users began. ``seconds`` 0 is for good."""

    at: float
    do: str
    node: str = ""
    seconds: float = 0.0
    by: float = 0.0

    @property
    def proxied(self) -> bool:
        """Whether it needs a proxy before every node."""
        return self.do in _PROXIED

    @property
    def text(self) -> str:
        """What a chart calls it."""
        return f"{self.do} {self.node}".strip()

    def as_dict(self) -> dict[str, Any]:
        """Return it in a form for another process."""
        return asdict(self)


def load_faults(path: str, run_time: float) -> list[Fault]:
    """Return the faults of a file. Raises ``ValueError`` that names what is wrong with it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    return parse_faults(text, run_time, path)


def parse_faults(text: str, run_time: float, name: str = "faults") -> list[Fault]:
    """Return the faults of ``text`` in the order of their times. Raises ``ValueError`` that names the fault and its flaw."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}") from error
    rows = document.pop("fault", None)
    if document or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        extra = f", and nothing else ({', '.join(document)})" if document else ""
        raise ValueError(f"{name} must hold tables [[fault]]{extra}")
    faults = [_fault(row, run_time, f"{name}, fault {number}") for number, row in enumerate(rows, start=1)]
    return sorted(faults, key=lambda fault: fault.at)


def _fault(row: Mapping[str, Any], run_time: float, where: str) -> Fault:
    do = row.get("do")
    kind = KINDS.get(do) if isinstance(do, str) else None
    if kind is None or not isinstance(do, str):
        raise ValueError(f"{where}: there is no fault {do!r}; there is: {', '.join(KINDS)}")
    given = set(row) - {"at", "do"}
    if missing := kind.must - given:
        raise ValueError(f"{where}: {do} needs {', '.join(sorted(missing))}")
    if unknown := given - kind.must - kind.may:
        raise ValueError(f"{where}: {do} takes no {', '.join(sorted(unknown))}")
    node = row.get("node", "")
    if not isinstance(node, str) or ("node" in row and not node):
        raise ValueError(f"{where}: node {node!r} is not the id of a node, as n1")
    seconds, by = (_seconds(row.get(field, 0), f"{where}: {field}") for field in ("for", "by"))
    return Fault(_moment(row.get("at"), run_time, where), do, node, seconds, by)


def _moment(raw: object, run_time: float, where: str) -> float:
    if isinstance(raw, str) and raw.endswith("%"):
        try:
            share = float(raw[:-1]) / 100
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise ValueError(f"{where}: at {raw!r} is not a share of the run, as 50%")
        if not run_time:
            raise ValueError(f"{where}: at {raw!r} needs --run-time")
        return share * run_time
    at = _seconds(raw, f"{where}: at")
    if run_time and at > run_time:
        raise ValueError(f"{where}: at {at:g} s is after the end of the run ({run_time:g} s)")
    return at


def _seconds(raw: object, what: str) -> float:
    number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if not number or not 0 <= float(raw) <= _SECONDS_AT_MOST:  # type: ignore[arg-type]  # the line before has looked
        raise ValueError(f"{what} {raw!r} is not a number of seconds from 0 to {_SECONDS_AT_MOST:g}")
    return float(raw)  # type: ignore[arg-type]  # as above
