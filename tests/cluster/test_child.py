"""Child processes: they die with their parent, and a stop leaves none behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from kvcache.cluster import launcher
from kvcache.cluster.child import start_child, stop_child

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w').close(); time.sleep(60)",
]
PARENT = """
import asyncio, sys
from kvcache.cluster import launcher
from kvcache.cluster.child import start_child

async def main():
    child = await start_child([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


async def test_a_child_runs_in_its_own_session_so_that_ctrl_c_misses_it():
    child = await start_child(SLEEPER)
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        await stop_child(child)


async def test_the_pid_is_that_of_the_program_itself(until):
    child = await start_child(SLEEPER)
    try:
        cmdline = Path(f"/proc/{child.pid}/cmdline")
        await until(lambda: b"launcher" not in cmdline.read_bytes() and b"time.sleep(60)" in cmdline.read_bytes())
    finally:
        await stop_child(child)


async def test_a_stopped_child_is_gone_and_its_code_is_told(is_alive):
    child = await start_child(SLEEPER)
    assert await stop_child(child) == -signal.SIGTERM
    assert not is_alive(child.pid)


async def test_a_child_that_ignores_the_request_is_killed(until, is_alive, tmp_path):
    deaf = tmp_path / "deaf"
    child = await start_child([*STUBBORN, str(deaf)])
    await until(deaf.exists)
    assert await stop_child(child, grace=0.1) == -signal.SIGKILL
    assert not is_alive(child.pid)


async def test_a_paused_child_is_killed(until, is_alive):
    child = await start_child(SLEEPER)
    os.kill(child.pid, signal.SIGSTOP)
    await until(lambda: Path(f"/proc/{child.pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T")
    assert await stop_child(child, grace=0.1) == -signal.SIGKILL
    assert not is_alive(child.pid)


async def test_a_stop_that_is_cancelled_kills(until, is_alive, tmp_path):
    deaf = tmp_path / "deaf"
    child = await start_child([*STUBBORN, str(deaf)])
    await until(deaf.exists)
    stop = asyncio.ensure_future(stop_child(child, grace=60))
    await asyncio.sleep(0)
    stop.cancel()
    await asyncio.gather(stop, return_exceptions=True)
    assert stop.cancelled()
    assert not is_alive(child.pid)


async def test_a_child_that_ended_by_itself_can_be_stopped():
    child = await start_child([sys.executable, "-S", "-c", "raise SystemExit(7)"])
    assert await child.wait() == 7
    assert await stop_child(child) == 7


async def test_a_program_that_does_not_exist_says_so(tmp_path):
    with (tmp_path / "output").open("w+b") as output:
        child = await start_child(["/no/such/program"], output=output)
        assert await child.wait() == 1
        output.seek(0)
        assert b"cannot start /no/such/program" in output.read()


async def _orphan(script: str, until, is_alive) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        child = int(await parent.stdout.readline())
        assert is_alive(child)
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: not is_alive(child))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux does it")
async def test_a_child_dies_with_a_parent_that_is_killed(until, is_alive):
    await _orphan(PARENT, until, is_alive)


async def test_without_the_kernels_help_a_child_dies_with_its_parent_a_moment_later(until, is_alive, tmp_path):
    source = Path(launcher.__file__).read_text()
    plain = tmp_path / "launcher.py"
    plain.write_text(source.replace('sys.platform.startswith("linux")', 'sys.platform == "none"'))
    script = PARENT.replace(
        "async def", f"from kvcache.cluster import child as module\nmodule._LAUNCHER = {str(plain)!r}\n\nasync def"
    )
    await _orphan(script, until, is_alive)


async def test_a_child_whose_parent_is_gone_already_does_not_start():
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", launcher.__file__, "1", "/bin/true")
    assert await process.wait() == 1
