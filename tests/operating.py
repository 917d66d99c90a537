"""A person at a shell with the runbook open: its steps, typed one by one at a cluster of real processes.

Here live reading steps out of the runbook, the shell, and the cluster that it acts on. Never here: what a
procedure must achieve.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from deploy_files import DEPLOY
from integration.conftest import NodeProcess, free_port

from loadtests.faults.cluster import Coordinator

RUNBOOK = DEPLOY / "README.md"
_ASKED, _DONE = "\x01", "\x02"
_STEP_SECONDS = 100.0
_NAMES = re.compile(r"\bcache-\d+\b")


def sections() -> dict[str, str]:
    """Return the sections of the runbook by their headings."""
    parts = re.split(r"^## (.+)\n", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(section: str) -> list[str]:
    """Return what a section shows to be typed."""
    return re.findall(r"^```\n(.+?)^```$", sections()[section], re.MULTILINE | re.DOTALL)


def steps(section: str) -> Iterator[str]:
    """Yield what a section has typed, command by command; a loop is one command."""
    lines: list[str] = []
    for line in "".join(blocks(section)).splitlines():
        lines.append(line)
        if _complete("\n".join(lines)):
            yield "\n".join(lines)
            lines = []
    assert not lines, f"this never ends: {lines}"


def _complete(text: str) -> bool:
    return subprocess.run(["bash", "-nc", text], capture_output=True, check=False).returncode == 0


class Operated:
    """A cluster with secrets, whose nodes are called as in the runbook, and its Redis."""

    def __init__(self, folder: Path) -> None:
        self.secrets = folder / "secret"
        self.secrets.write_text(
            "client the-old-secret-of-clients\nnode the-old-secret-of-nodes\nadmin the-old-of-admins\n"
        )
        self.secrets.chmod(0o600)
        self.processes: dict[str, NodeProcess] = {}
        self.ports: dict[str, int] = {}
        self._asyncio = asyncio.Runner()
        self.redis = Coordinator()

    @property
    def seeds(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    @property
    def living(self) -> list[str]:
        return sorted(self.processes)

    def port(self, node: str) -> int:
        """Return the port of a node, the same in all its lives."""
        return self.ports.setdefault(node, free_port())

    def start(self, name: str) -> None:
        """Start a node or Redis; whether it serves yet is another question, as with systemctl."""
        if name == "redis":
            self._asyncio.run(self.redis.restart_empty())
            return
        self.processes[name] = NodeProcess(
            *("--id", name, "--cluster", "operated", "--coordinator", self.redis.url, "--replication-factor", "2"),
            *("--secret-file", str(self.secrets)),
            port=self.port(name),
        )

    def stop(self, name: str) -> None:
        """Stop a node or Redis as an operator does."""
        if name == "redis":
            self._asyncio.run(self.redis.stop())
            return
        process = self.processes.pop(name)
        process.signal(signal.SIGTERM)
        try:
            assert process.ended() == 0, process.log
        finally:
            process.kill()

    def kill(self, name: str) -> None:
        """Lose a node for good."""
        self.processes.pop(name).kill()

    def restart(self, name: str) -> None:
        self.stop(name)
        self.start(name)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self.__exit__)
            self._asyncio.run(self.redis.start())
            for name in ("cache-1", "cache-2", "cache-3"):
                self.start(name)
            for process in self.processes.values():
                process.serving()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
        self._asyncio.run(self.redis.stop())
        self._asyncio.close()


class Shell:
    """A bash in which what is typed acts on ``cluster``. ``names`` are the nodes that those of the runbook stand for.

    Variables that a step exports are there in the next one.
    """

    def __init__(self, cluster: Operated, folder: Path, names: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._names = names
        settings = {"KVCACHE_SEEDS": cluster.seeds, "KVCACHE_SECRET_FILE": str(cluster.secrets)}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KVCACHE_")}
        scripts = sysconfig.get_path("scripts")
        self._answers, theirs = os.pipe()[::-1]
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=clean | settings | {"PATH": f"{scripts}:{clean['PATH']}"},
            pass_fds=[theirs],
            text=True,
            bufsize=1,
        )
        os.close(theirs)
        for name in ("start", "stop", "restart"):
            ask = f"printf '\\001{name} %s\\n' \"$1\"; read -r code <&{theirs}; return $code"
            self._type(f"{name}() {{ {ask}; }}")

    def run(self, step: str) -> tuple[int, str]:
        """Type one step; return its exit code and what it printed."""
        text = _NAMES.sub(lambda found: self._names.get(found[0], found[0]), step)
        text = text.replace("/etc/kvcache/secret", str(self._cluster.secrets))
        text = re.sub(r"http://(cache-\d+):7700", lambda it: f"http://127.0.0.1:{self._cluster.port(it[1])}", text)
        watchdog = threading.Timer(_STEP_SECONDS, self._process.kill)
        watchdog.start()
        try:
            self._type(f"{text}\nprintf '\\002%s\\n' $?")
            return self._outcome(text)
        finally:
            watchdog.cancel()

    def _outcome(self, step: str) -> tuple[int, str]:
        printed: list[str] = []
        for line in self._process.stdout or ():
            before, asked, request = line.partition(_ASKED)
            before, done, code = before.partition(_DONE)
            printed.append(before)
            if asked:
                self._answer(request.split())
            if done:
                return int(code), "".join(printed)
        raise AssertionError(f"the shell ended in {step!r}: {''.join(printed)}")

    def _answer(self, request: list[str]) -> None:
        action, name = request
        try:
            getattr(self._cluster, action)(name)
            code = 0
        except KeyError:  # there is no such node
            code = 5
        os.write(self._answers, b"%d\n" % code)

    def _type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._answers)
