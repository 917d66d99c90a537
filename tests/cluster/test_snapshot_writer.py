"""What a writer leaves behind: a whole snapshot or nothing, whatever happens while it writes."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from snapshot_samples import ORIGIN, SMALL, TIGHT, files, read, write

from kvcache.cluster.snapshots import SnapshotReader, SnapshotWriter
from kvcache.events import journal
from kvcache_client.protocol.errors import (
    InvalidKey,
    InvalidOption,
    InvalidRecord,
    LockLost,
    SnapshotAbandoned,
    SnapshotDamaged,
    ValueTooLarge,
)
from kvcache_client.protocol.limits import VALUE_BYTES_CAP
from kvcache_client.protocol.record import NEVER, TOMBSTONE, make_record

SYSTEM_CALLS: Final = ("write", "fsync", "rename", "open", "close")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def nothing_is_left(target: Path) -> bool:
    return list(target.parent.iterdir()) == []


def test_an_empty_snapshot_is_one(target: Path) -> None:
    write(target, [])
    assert [path.name for path in files(target)] == ["manifest.msgpack"]
    assert read(target) == []
    assert SnapshotReader(target).manifest.records == 0


def test_a_writer_counts_what_it_took(target: Path) -> None:
    with SnapshotWriter(target, **ORIGIN) as writer:
        writer.add(*SMALL[1])
        writer.add(*SMALL[2])
        assert (writer.records, writer.bytes) == (2, sum(len(key) + len(record) for key, record in SMALL[1:3]))
        assert "open records=2" in repr(writer)
    assert "written records=2" in repr(writer)


def test_the_same_records_make_the_same_files(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", **TIGHT), write(tmp_path / "other", **TIGHT)
    assert [path.read_bytes() for path in files(one)] == [path.read_bytes() for path in files(other)]


def test_blocks_and_segments_keep_to_their_sizes(target: Path) -> None:
    record = make_record(1, NEVER, 1, b"x" * 85)
    write(target, [(b"key%02d" % number, record) for number in range(50)], block_bytes=500, segment_bytes=2000)
    segments = SnapshotReader(target).manifest.segments
    assert [len(block) for block in SnapshotReader(target)] == [4] * 12 + [2]
    assert all(segment.size <= 2000 for segment in segments)
    assert len(segments) > 1
    assert [path.stat().st_size for path in files(target)[1:]] == [segment.size for segment in segments]


def test_only_the_owner_may_read_a_snapshot(target: Path) -> None:
    before = os.umask(0)
    try:
        write(target, **TIGHT)
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(target)} == {0o600}


def test_nothing_shows_under_the_name_before_it_is_whole(target: Path) -> None:
    with SnapshotWriter(target, **ORIGIN, **TIGHT) as writer:
        for pair in SMALL:
            writer.add(*pair)
        assert not target.exists()
        assert [path.name.startswith(".snapshot-") for path in target.parent.iterdir()] == [True]
    assert [path.name for path in target.parent.iterdir()] == ["backup"]


def test_an_empty_directory_becomes_the_snapshot(target: Path) -> None:
    target.mkdir()
    assert read(write(target)) == SMALL


def test_a_name_is_taken_as_the_shell_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    for name in ("plain", "slash/", "./dot", "link/through"):
        with SnapshotWriter(name, **ORIGIN) as writer:
            monkeypatch.chdir("/")
            writer.add(*SMALL[0])
        monkeypatch.chdir(tmp_path)
        assert read(tmp_path / name.rstrip("/")) == SMALL[:1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: (path.mkdir(), (path / "kept").touch()), "is not empty"),
        (lambda path: path.touch(), "is no directory"),
        (lambda path: path.symlink_to(path.parent), "is no directory"),
        (lambda path: path.symlink_to(path.parent / "nowhere"), "is no directory"),
        (lambda path: write(path), "is not empty"),
    ],
)
def test_what_is_there_already_is_never_replaced(target: Path, make: Callable[[Path], Any], words: str) -> None:
    make(target)
    before = sorted(path.name for path in target.parent.rglob("*"))
    with pytest.raises(InvalidOption, match=words) as caught:
        write(target)
    assert str(target) in str(caught.value)
    assert sorted(path.name for path in target.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["", "/", "missing/backup", "nul\0", "\ud800/x", "/proc", "x" * 300])
def test_a_name_that_cannot_be_a_new_directory_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidOption):
        SnapshotWriter(name, **ORIGIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"cluster": ""},
        {"cluster_id": "shop"},
        {"taken_at_ms": -1},
        {"taken_at_ms": 1.5},
        {"generations": [("x" * 1025, 1)]},
        {"generations": [("x" * 1024, 1)] * 5000},
        {"block_bytes": 0},
        {"block_bytes": 1 << 30},
    ],
)
def test_an_option_that_no_reader_would_take_is_refused_at_once(target: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        SnapshotWriter(target, **ORIGIN | wrong)
    assert nothing_is_left(target)


@pytest.mark.parametrize(
    ("key", "record", "error"),
    [
        (b"", SMALL[0][1], InvalidKey),
        (b"k" * 1025, SMALL[0][1], InvalidKey),
        ("text", SMALL[0][1], InvalidKey),
        (b"k", b"short", InvalidRecord),
        (b"k", None, InvalidRecord),
        (b"k", make_record(1, NEVER, TOMBSTONE, b"x"), InvalidRecord),
        (b"k", make_record(1, NEVER, 1, bytes(VALUE_BYTES_CAP + 1)), ValueTooLarge),
    ],
)
def test_what_is_no_record_ends_the_snapshot(target: Path, key: Any, record: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        write(target, [*SMALL, (key, record)], **TIGHT)
    assert nothing_is_left(target)


def test_a_failure_in_the_middle_leaves_nothing_and_is_not_hidden(target: Path) -> None:
    def pairs() -> Iterator[tuple[bytes, bytes]]:
        yield from SMALL
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(target, pairs(), **TIGHT)
    assert nothing_is_left(target)


async def test_a_cancelled_snapshot_leaves_nothing(target: Path) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        with SnapshotWriter(target, **ORIGIN, **TIGHT) as writer:
            for pair in SMALL:
                writer.add(*pair)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    assert not nothing_is_left(target)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nothing_is_left(target)


class FailingCall:
    """A system call that fails when it is made for the ``nth`` time."""

    def __init__(self, real: Callable[..., Any], nth: int, error: BaseException) -> None:
        self.real = real
        self.left = nth
        self.error = error

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.real(*arguments, **options)


@pytest.mark.parametrize("name", SYSTEM_CALLS)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_whichever_system_call_fails_there_is_a_whole_snapshot_or_nothing(
    target: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    failures = 0
    for nth in range(1, 100):
        call = FailingCall(getattr(os, name), nth, error)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            try:
                write(target, **TIGHT)
            except (SnapshotAbandoned, KeyboardInterrupt) as raised:
                failure: BaseException | None = raised
            else:
                failure = None
        if call.left > 0:
            break
        failures += 1
        assert nothing_is_left(target), (name, nth)
        if isinstance(error, OSError):
            assert isinstance(failure, SnapshotAbandoned)
            assert failure.__cause__ is error
            assert failure.detail == errno.ENOSPC
            assert "No space left on device" in str(failure)
            assert str(target) in str(failure)
    assert failures >= 2
    assert read(target) == SMALL


def test_the_error_of_a_full_disk_says_which_file_and_byte(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", FailingCall(os.write, 3, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(SnapshotAbandoned, match=r"at segment-000001\.msgpack, byte 77; nothing of it is left"):
        write(target)


def test_a_short_write_is_carried_on(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    write(target, **TIGHT)
    assert read(target) == SMALL


LIMITED: Final = """
import resource, sys
from pathlib import Path
from snapshot_samples import write
from kvcache_client.protocol.errors import SnapshotAbandoned
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write(Path(sys.argv[1]), [(b"large", bytes(200_000))])
except SnapshotAbandoned as error:
    print(error)
"""


def test_a_limit_of_the_system_leaves_nothing(target: Path) -> None:
    path = os.pathsep.join(sys.path)
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(target)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "File too large, at segment-000001.msgpack, byte 100000; nothing of it is left" in run.stdout
    assert nothing_is_left(target)


def test_an_abandoned_snapshot_takes_no_more_and_does_not_end_well(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow_the_error() -> None:
        with SnapshotWriter(target, **ORIGIN, block_bytes=1) as writer:
            writer.add(*SMALL[0])
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", FailingCall(os.write, 1, OSError(errno.EIO, "Input/output error")))
                with pytest.raises(SnapshotAbandoned, match="Input/output error"):
                    writer.add(*SMALL[1])
            with pytest.raises(SnapshotAbandoned, match="it is abandoned"):
                writer.add(*SMALL[2])

    with pytest.raises(SnapshotAbandoned, match="it is abandoned"):
        swallow_the_error()
    assert nothing_is_left(target)


def test_a_writer_writes_one_snapshot(target: Path) -> None:
    writer = SnapshotWriter(target, **ORIGIN)
    with pytest.raises(SnapshotAbandoned, match="it is new"):
        writer.add(*SMALL[0])
    with writer:
        writer.add(*SMALL[0])
    with pytest.raises(SnapshotAbandoned, match="it is written"):
        writer.add(*SMALL[0])
    with pytest.raises(InvalidOption, match="written once"):
        writer.__enter__()
    assert read(target) == SMALL[:1]


def test_a_target_that_was_filled_meanwhile_is_left_alone(target: Path) -> None:
    def pairs() -> Iterator[tuple[bytes, bytes]]:
        yield SMALL[0]
        target.mkdir()
        (target / "precious").touch()

    with pytest.raises(SnapshotAbandoned, match="not empty"):
        write(target, pairs())
    assert [path.name for path in target.parent.rglob("*")] == ["backup", "precious"]


def test_a_snapshot_that_is_whole_is_said_and_counted(target: Path) -> None:
    before = journal.counts["snapshot_written"]
    write(target, SMALL)
    assert journal.counts["snapshot_written"] == before + 1
    assert journal.as_dict()["recent"][-1]["text"].startswith(f"the snapshot {target} is whole: {len(SMALL)} records, ")


def test_what_could_not_be_removed_is_named(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    def pairs() -> Iterator[tuple[bytes, bytes]]:
        yield SMALL[0]
        (staging,) = target.parent.iterdir()
        (staging / "stranger").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(target, pairs())
    (staging,) = target.parent.iterdir()
    (record,) = [it for it in caplog.records if it.event == "snapshot_left_over"]  # type: ignore[attr-defined]
    assert record.fields["directory"] == str(target)  # type: ignore[attr-defined]
    assert staging.name in record.fields["left"]  # type: ignore[attr-defined]
    assert [path.name for path in staging.iterdir()] == ["stranger"]


def test_nothing_appears_once_the_lock_is_lost(target: Path) -> None:
    def lost() -> None:
        assert len(files(next(target.parent.iterdir()))) > 1, "all of it is on the disk by then"
        raise LockLost("somebody else has it")

    with pytest.raises(LockLost), SnapshotWriter(target, **ORIGIN, **TIGHT, before_publishing=lost) as writer:
        for pair in SMALL:
            writer.add(*pair)
    assert nothing_is_left(target)


def test_what_a_killed_writer_leaves_is_no_snapshot(target: Path) -> None:
    with SnapshotWriter(target, **ORIGIN, **TIGHT) as writer:
        for pair in SMALL:
            writer.add(*pair)
        (staging,) = target.parent.iterdir()
        assert files(staging)
        with pytest.raises(SnapshotDamaged, match="never finished"):
            SnapshotReader(staging)
    assert read(target) == SMALL


@pytest.fixture
def locked() -> Iterator[Path]:
    """A directory in which this process may not write; root gives its rights up for as long."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(made)
        finally:
            if user == 0:
                os.seteuid(0)
            Path(made).chmod(0o755)


def test_a_place_where_we_may_not_write_is_named(locked: Path) -> None:
    with pytest.raises(SnapshotAbandoned, match="could not be begun: Permission denied") as caught:
        write(locked / "backup")
    assert str(locked / "backup") in str(caught.value)
    assert list(locked.iterdir()) == []


def test_a_snapshot_that_we_may_not_read_is_refused(locked: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = write(Path(made) / "backup")
        (directory / "manifest.msgpack").chmod(0)
        with pytest.raises(SnapshotDamaged, match=r"manifest\.msgpack, byte 0: it cannot be read: Permission denied"):
            SnapshotReader(directory)
        assert locked.is_dir()


def test_no_file_stays_open(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    write(target, **TIGHT)
    for nth in (1, 4, 9):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", FailingCall(os.write, nth, OSError(errno.ENOSPC, "No space left on device")))
            with pytest.raises(SnapshotAbandoned):
                write(target.parent / "other", **TIGHT)
    assert len(os.listdir("/proc/self/fd")) == before


def test_each_step_is_durable_before_the_next_one_relies_on_it(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def noted(call: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            steps.append(name(*arguments))
            return call(*arguments, **options)

        return run

    def synced(descriptor: int) -> str:
        return "sync " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    def renamed(source: str, goal: str) -> str:
        return f"rename {os.path.basename(source)} {os.path.basename(goal)}"

    monkeypatch.setattr(os, "fsync", noted(os.fsync, synced))
    monkeypatch.setattr(os, "rename", noted(os.rename, renamed))
    write(target, **TIGHT)
    staging = steps[-2].split()[1]
    assert steps == [
        "sync segment-000001.msgpack",
        "sync segment-000002.msgpack",
        "sync manifest.msgpack.unfinished",
        "rename manifest.msgpack.unfinished manifest.msgpack",
        f"sync {staging}",
        f"rename {staging} backup",
        f"sync {target.parent.name}",
    ]
