from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kvcache.memory import node_environment, restart_with_c_allocator

pytestmark = pytest.mark.skipif(
    "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="only glibc's allocator is chosen"
)

# What kvcache.__main__ does first, in a program that then tells of itself.
PROGRAM = """
import os, sys
from kvcache.memory import restart_with_c_allocator
restart_with_c_allocator()
print(os.getpid(), os.environ.get("PYTHONMALLOC"), len(sys.modules.keys() & {"typer", "ctypes", "asyncio"}), *sys.argv[1:])
"""

# Holds 32 MiB in small pieces below one that stays, so that the C library does not shrink its heap by itself.
TOUCHING = """
from kvcache.memory import resident_bytes, return_free_pages
print(resident_bytes())
held = [bytes(1000) for _ in range(33_000)]
last = bytes(1000)
print(resident_bytes())
held.clear()
print(resident_bytes())
return_free_pages()
print(resident_bytes())
"""


def test_a_node_runs_with_the_c_librarys_allocator_and_one_arena() -> None:
    chosen = node_environment({"HOME": "/home/ada"})
    assert chosen.pop("GLIBC_TUNABLES") == "glibc.malloc.mxfast=0"
    assert chosen == {"HOME": "/home/ada", "PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"}


@pytest.mark.parametrize("choice", ["pymalloc", "debug", "malloc"])
def test_a_choice_of_the_user_stays(choice: str) -> None:
    assert node_environment({"PYTHONMALLOC": choice}) == {"PYTHONMALLOC": choice}


def test_a_number_of_arenas_that_the_user_set_stays() -> None:
    assert node_environment({"MALLOC_ARENA_MAX": "4"})["MALLOC_ARENA_MAX"] == "4"


def test_with_another_c_library_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> str:
        raise ValueError(f"unrecognized configuration name: {name}")

    monkeypatch.setattr(os, "confstr", refuse)
    assert node_environment({"HOME": "/home/ada"}) == {"HOME": "/home/ada"}


@pytest.mark.parametrize("given", [{}, {"PYTHONMALLOC": "pymalloc"}])
def test_a_program_starts_again_once_as_the_same_process_with_the_same_arguments(given: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONMALLOC"}
    command = [sys.executable, "-c", PROGRAM, "node", "--id", "two words"]
    process = subprocess.Popen(command, env={**environment, **given}, stdout=subprocess.PIPE, text=True)
    told, _ = process.communicate(timeout=30)
    allocator = given.get("PYTHONMALLOC", "malloc")
    assert told.split("\n")[0] == f"{process.pid} {allocator} 0 node --id two words"


def test_a_process_that_has_its_allocator_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    restart_with_c_allocator(lambda *_: pytest.fail("it was started again"))


def test_the_new_program_is_the_old_one_with_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.delenv("PYTHONMALLOC", raising=False)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "/opt/bin/kvcache", "node"])
    restart_with_c_allocator(lambda *call: calls.append(call))  # type: ignore[arg-type, return-value]
    [(program, words, environment)] = calls
    assert program == sys.executable
    assert words == [sys.executable, "-X", "dev", "/opt/bin/kvcache", "node"]
    assert environment["PYTHONMALLOC"] == "malloc"


def test_resident_memory_grows_with_what_is_touched_and_is_given_back() -> None:
    # In a process of its own: what other tests have freed would be resident before it is touched.
    environment = {**os.environ, **node_environment({})}
    told = subprocess.run([sys.executable, "-c", TOUCHING], env=environment, capture_output=True, text=True, timeout=60)
    before, grown, freed, shrunk = map(int, told.stdout.split())
    assert grown - before > 24 << 20
    assert freed > grown - (8 << 20), "the allocator gave the pages back by itself: the call is not tested"
    assert shrunk < grown - (24 << 20)
