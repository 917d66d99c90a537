"""The public types: two programs that use the whole API are strictly typed, and do what they say on real nodes."""

from __future__ import annotations

import ast
import asyncio
import zipfile
from pathlib import Path
from typing import Any

import async_tour
import blocking_tour
import mypy.api
import pytest
from client_faces import CLIENTS

import kvcache_client

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = {"asyncio": HERE / "async_tour.py", "blocking": HERE / "blocking_tour.py"}

NOT_FOR_PROGRAMS = {"run", "brain", "session"}
"""What a client offers to the project itself: driving plans, and looking inside."""


def checked(*arguments: str) -> tuple[str, int]:
    """What mypy --strict says, with the project's settings of where modules lie."""
    config = str(ROOT / "pyproject.toml")
    report, errors, status = mypy.api.run(["--strict", "--config-file", config, *arguments])
    return report + errors, status


@pytest.mark.slow
def test_the_programs_are_strictly_typed() -> None:
    report, status = checked(*map(str, PROGRAMS.values()))
    assert status == 0, report


@pytest.mark.slow
def test_a_wrong_use_is_found(tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    text = "\n".join(
        (
            "from kvcache_client import AsyncClient, BatchResult, Client, Entry",
            "async def wrong(cache: AsyncClient, plain: Client) -> None:",
            "    number: str = await cache.incr('k')",
            "    flag: int = cache.exists('k')",
            "    entry: Entry = plain.get_entry('k')",
            "    batch: BatchResult[str] = plain.set_many({'k': 1})",
            "    await plain.set('k', 1)",
            "    cache.get(5)",
            "    plain.set('k', 1, ttl='soon', fence='high')",
            "    plain.gett('k')",
        )
    )
    program.write_text(text)
    report, status = checked(str(program))
    assert status == 1
    lines = {int(line.split(":")[1]) for line in report.splitlines() if ": error:" in line}
    assert lines >= {3, 4, 5, 6, 7, 8, 9, 10}, report


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_programs_use_everything_that_a_client_has(kind: str) -> None:
    used = {node.attr for node in ast.walk(ast.parse(PROGRAMS[kind].read_text())) if isinstance(node, ast.Attribute)}
    public = {name for name in dir(CLIENTS[kind]) if not name.startswith("_")}
    assert public - used - NOT_FOR_PROGRAMS == set()


async def test_the_programs_run_on_real_nodes(three_nodes: Any) -> None:
    address = three_nodes.addresses[0]
    await async_tour.tour(address)
    await asyncio.to_thread(blocking_tour.tour, address)


def test_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    wheel: Any = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(built).namelist())
    assert {"kvcache_client/py.typed", "kvcache/py.typed", "kvcache_client/protocol/WIRE.md"} <= names
    assert not [name for name in names if "test" in name.partition("/")[0]]


ERRORS = """
AdminBusy BatchTooLarge CertificateRejected ClientClosed ClockSkew ConnectFailed ConnectionLost
ControlPlaneUnavailable CounterOverflow DeadlineExceeded ExpandedTooLarge Forbidden ForgedValue FrameTooLarge
HelloRequired InDoubt InvalidKey InvalidOption InvalidRecord InvalidTtl KeyNotFound KvCacheError LockLost
MalformedFrame MissingExtra NoAnswer NodeFault NotAnInteger NotApplied NotOwner NotReady Overloaded ProtocolError
ReplyFull SnapshotAbandoned SnapshotDamaged StaleEpoch StaleFence Superseded TooFewCopies TopologyError Unauthenticated
Unavailable UndecodableValue UnknownSerializer UnknownVerb UnsupportedValue UsageError ValueTooLarge VersionMismatch
WrongCluster WrongEventLoop
"""

PUBLIC = """
AsyncClient AsyncLock BatchResult Client ClientConfig ClientStats CopyReport Entry Explanation Lock NamespaceStats NodeStats
Serializer SignedPickle
"""


def test_the_public_names_are_these_and_no_others() -> None:
    """A name that programs import is a promise; a change of this list is one of the promise."""
    errors = {name for name in kvcache_client.__all__ if isinstance(getattr(kvcache_client, name), type)}
    errors = {name for name in errors if issubclass(getattr(kvcache_client, name), kvcache_client.KvCacheError)}
    assert set(kvcache_client.__all__) - errors == {*PUBLIC.split(), "ERRORS", "error_from_wire"}
    assert errors == set(ERRORS.split())
