"""What a node tells of its machine: read from the system's files, whatever of them is there."""

import os
import resource

import pytest

from kvcache.machine import describe_machine, memory_limit


def test_this_machine_is_described():
    told = describe_machine()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert told["descriptors_limit"] == (None if soft == resource.RLIM_INFINITY else soft)
    assert set(told) == {
        *("machine", "descriptors", "descriptors_limit", "swapped_bytes"),
        *("machine_swapped_bytes", "machine_memory_bytes", "memory_limit_bytes"),
    }


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc here")
def test_an_open_descriptor_is_counted(tmp_path):
    before = describe_machine()["descriptors"]
    with (tmp_path / "file").open("w"):
        assert describe_machine()["descriptors"] == before + 1


def test_swap_is_what_of_it_is_not_free(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal:       2048 kB\nSwapTotal:     1000 kB\nSwapFree:       990 kB\n")
    (tmp_path / "self/status").write_text("Name:\tpython\nVmSwap:\t       7 kB\n")
    told = describe_machine(tmp_path, tmp_path)
    assert (told["machine_memory_bytes"], told["machine_swapped_bytes"]) == (2048 * 1024, 10 * 1024)
    assert told["swapped_bytes"] == 7 * 1024


def test_what_the_system_does_not_tell_is_none(tmp_path):
    told = describe_machine(tmp_path / "nothing", tmp_path / "here")
    assert {name for name, value in told.items() if value is not None} <= {
        *("machine", "descriptors_limit", "machine_memory_bytes"),
    }
    assert told["machine"] == ""


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "300", "a/memory.max": "200", "memory.max": "max"}, 200),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "max"}, None),
        ("0::/../../unseen\n", {"memory.max": "500"}, 500),
        ("0::/\n", {"memory.max": "400\n"}, 400),
        ("9:cpu:/x\n4:memory:/x/y\n0::/\n", {"memory/x/y/memory.limit_in_bytes": "100"}, 100),
        ("4:cpu,memory:/hidden\n", {"memory/memory.limit_in_bytes": "600"}, 600),
        ("9:cpu:/x\n", {"memory/memory.limit_in_bytes": "600"}, None),
        ("nonsense\n\n", {}, None),
    ],
)
def test_the_lowest_limit_above_a_process_counts(tmp_path, membership, files, limit):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(membership, tmp_path) == limit
