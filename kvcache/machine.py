"""The machine around this process: what of it may run short.

Here lives reading descriptors, swap and memory from the operating system, as facts. Never here: what follows from them
(``cluster.checkup``), or the memory of this process (``memory``). What a system does not tell is None.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import Any, Final

__all__ = ["describe_machine", "memory_limit"]

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def describe_machine(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> dict[str, Any]:
    """Return what the system says of this process and of the machine; sizes in bytes.

    ``machine`` is the same in all processes of one boot, in containers too; empty where it is hidden.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    memory, mine = _text(proc / "meminfo"), _text(proc / "self/status")
    total, free = _kilobytes(memory, "SwapTotal"), _kilobytes(memory, "SwapFree")
    return {
        "machine": _text(proc / "sys/kernel/random/boot_id").strip(),
        "descriptors": _count(proc / "self/fd"),
        "descriptors_limit": None if soft == resource.RLIM_INFINITY else soft,
        "swapped_bytes": _kilobytes(mine, "VmSwap"),
        "machine_swapped_bytes": None if total is None or free is None else total - free,
        "machine_memory_bytes": _kilobytes(memory, "MemTotal") or _physical_bytes(),
        "memory_limit_bytes": memory_limit(_text(proc / "self/cgroup"), cgroups),
    }


def memory_limit(membership: str, cgroups: Path = _CGROUPS) -> int | None:
    """Return the lowest memory limit of the control groups that ``membership`` (``/proc/self/cgroup``) names, in bytes.

    Both versions of control groups are known. In a container the named path may not be visible: then what lies above it counts.
    """
    limits = []
    for line in membership.splitlines():
        _, controllers, path = (line + "::").split(":")[:3]
        if not controllers:
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.lstrip("/")
        limits += [_text(place / name).strip() for place in (folder, *folder.parents) if place.is_relative_to(root)]
    # Without a limit version 2 says "max"; version 1 a number that no machine reaches, which does no harm here.
    return min((int(limit) for limit in limits if limit.isdecimal()), default=None)


def _kilobytes(text: str, field: str) -> int | None:
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _physical_bytes() -> int | None:
    """Ask the system itself: a hardened service does not see ``/proc/meminfo``."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _count(folder: Path) -> int | None:
    try:
        return len(os.listdir(folder))
    except OSError:
        return None
