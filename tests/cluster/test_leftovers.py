"""Which private directories of killed snapshots are removed, and which are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from polling import wait_until
from snapshot_samples import ORIGIN, SMALL, TIGHT, read, write

from kvcache.cluster.snapshots import SnapshotWriter
from kvcache.cluster.snapshots.leftovers import remove_abandoned
from kvcache.events import journal

NAME = ".snapshot-x.partial"


def leftover(parent: Path, *names: str, age: float = 3600.0) -> Path:
    path = parent / NAME
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"half of it")
    _make_old(path, age)
    return path


def _make_old(path: Path, age: float = 3600.0) -> None:
    os.utime(path, (time.time() - age,) * 2)


def test_what_a_killed_snapshot_left_goes_with_the_next_one(tmp_path: Path) -> None:
    path = leftover(tmp_path, "segment-000001.msgpack", "manifest.msgpack.unfinished")
    write(tmp_path / "next", SMALL)
    assert not path.exists()
    assert read(tmp_path / "next") == SMALL


@pytest.mark.parametrize("name", ["stranger", "segment-1.msgpack", "manifest.msgpack.bak"])
def test_a_directory_with_a_file_that_no_snapshot_has_is_left_alone(tmp_path: Path, name: str) -> None:
    path = leftover(tmp_path, "segment-000001.msgpack", name)
    assert remove_abandoned(str(tmp_path)) == []
    assert len(list(path.iterdir())) == 2


def test_a_young_one_is_left_alone(tmp_path: Path) -> None:
    path = leftover(tmp_path, age=5.0)
    assert remove_abandoned(str(tmp_path)) == []
    assert path.exists()


def test_what_only_has_the_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".snapshot-file.partial").write_text("mine")
    assert remove_abandoned(str(tmp_path)) == []
    assert remove_abandoned(str(tmp_path / "nowhere")) == []
    assert len(list(tmp_path.iterdir())) == 3


def test_one_that_is_being_written_is_left_alone_however_old(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path / "first", **ORIGIN, **TIGHT) as writer:
        for pair in SMALL:
            writer.add(*pair)
        (staging,) = tmp_path.iterdir()
        _make_old(staging)
        assert remove_abandoned(str(tmp_path)) == []
    assert read(tmp_path / "first") == SMALL


def test_a_process_that_was_killed_holds_nothing_any_more(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from kvcache.cluster.snapshots import SnapshotWriter\n"
        "from snapshot_samples import ORIGIN\n"
        "with SnapshotWriter(sys.argv[1], **ORIGIN): print('open', flush=True); sys.stdin.read()\n"
    )
    paths = [str(Path(__file__).parents[1])]
    command = [sys.executable, "-c", script, str(tmp_path / "never"), *paths]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        (staging,) = tmp_path.iterdir()
        _make_old(staging)
        assert remove_abandoned(str(tmp_path)) == []
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: remove_abandoned(str(tmp_path)) == [str(staging)])
    assert list(tmp_path.iterdir()) == []
    assert journal.as_dict()["recent"][-1]["event"] == "snapshot_cleared"
