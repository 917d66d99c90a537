"""The outcome: everything that is known of a run once it has ended.

Here lives the data from which a report is made and a verdict given. Never here: either of those.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.faults.plays import Happening
from loadtests.run.recording import Recording
from loadtests.run.slo import Judgement
from loadtests.run.watch import NodeSample

__all__ = ["Outcome", "machine"]

_PACKAGES = ("kvcache", "locust", "gevent", "msgpack", "mmh3", "uvloop")


@dataclass
class Outcome:
    """A run. ``began`` and ``ended`` are moments of the wall clock, as are those of samples and happenings."""

    title: str
    settings: Mapping[str, str]
    began: float
    ended: float = 0.0
    recording: Recording = field(default_factory=Recording)
    happenings: list[Happening] = field(default_factory=list)
    samples: list[NodeSample] = field(default_factory=list)
    judgements: Sequence[Judgement] = ()
    notes: list[str] = field(default_factory=list)
    """What a reader must know to read the figures rightly: a worker that was lost, lines that were damaged."""
    rate: float = 0.0
    """Operations per second that were wanted, 0 for a closed load."""

    @property
    def seconds(self) -> float:
        """How long the users worked."""
        return max((self.ended or time.time()) - self.began, 0.0)

    @property
    def held(self) -> bool:
        """Whether every SLO was held."""
        return all(judgement.held for judgement in self.judgements)


def machine() -> dict[str, str]:
    """Return what the load came from: processor, memory, system, versions."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": _memory(),
        "system": platform.platform(terse=True),
        "Python": platform.python_version(),
        **versions,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return "not known"
    return f"{pages * size / (1 << 30):.1f} GiB"
