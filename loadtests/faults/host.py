"""The host: a process of its own that owns the cluster and plays the faults, and the pipe to it.

Here lives both ends of the pipe. Never here: what goes wrong. A cluster needs asyncio and Locust needs gevent, which do not
share a process well; and what kills nodes should not compete with the users for one interpreter.

One JSON object a line. From the host: ``ready`` with the seeds, ``cannot`` with a reason, ``happened`` with a Happening. To the
host: ``play`` with faults, ``calm`` when the run is over. When its input ends, it stops the cluster and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from loadtests import CannotRun
from loadtests.faults.cluster import BreakableCluster, ClusterShape
from loadtests.faults.plays import Happening, play_all
from loadtests.faults.schedule import Fault

__all__ = ["ClusterHost", "ClusterOrder"]

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class ClusterOrder:
    """The cluster that is wanted; ``memory`` is of each node, ``proxied`` is needed for delays and cuts."""

    nodes: int = 3
    replicas: int = 2
    memory: str = "128MiB"
    proxied: bool = False


class ClusterHost:
    """A cluster in another process: ``with ClusterHost(order, on_happening) as host``. Works under gevent as well as without.

    Raises ``CannotRun`` with the reason when the cluster does not start.
    """

    def __init__(self, order: ClusterOrder, on_happening: Callable[[Happening], None]) -> None:
        self.order = order
        self.seeds = ""
        self._on_happening = on_happening
        self._first: queue.Queue[dict[str, Any]] = queue.Queue()
        command = [sys.executable, "-m", "loadtests.faults.host", json.dumps(asdict(order))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait_ready(self) -> str:
        """Return the seeds once the cluster serves."""
        try:
            message = self._first.get(timeout=_START_SECONDS)
        except queue.Empty:
            message = {"cannot": f"the cluster was not ready within {_START_SECONDS:g} s"}
        if "ready" not in message:
            self.stop()
            raise CannotRun(f"the cluster does not start: {message['cannot']}")
        self.seeds = message["ready"]
        return self.seeds

    def play(self, faults: list[Fault]) -> None:
        """Play the faults, their times counted from now, or from when those of the run before are undone."""
        if faults:
            self._order(play=[fault.as_dict() for fault in faults])

    def calm(self) -> None:
        """The run is over: let no more faults begin, and undo those that have, but for the ones that are for good."""
        self._order(calm=True)

    def stop(self) -> None:
        """Stop the cluster. Safe to call again."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(1.0)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _order(self, **message: Any) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()

    def _listen(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        for line in stream:
            message = json.loads(line)
            if "happened" in message:
                self._on_happening(Happening(**message["happened"]))
            else:
                self._first.put(message)
        self._first.put({"cannot": "its process ended; what it said is above"})

    def __enter__(self) -> ClusterHost:
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self._process.poll() is None else "ended"
        return f"<ClusterHost {self.order} {state} {self.seeds}>"


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


async def _serve(order: ClusterOrder) -> None:
    loop = asyncio.get_running_loop()
    shape = ClusterShape(order.nodes, order.replicas, order.memory, proxied=order.proxied)
    async with BreakableCluster(shape) as cluster:
        _say(ready="kvcache://" + ",".join(cluster.seeds))
        plays: list[asyncio.Task[None]] = []
        over = asyncio.Event()
        try:
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                over.set()
                if fields := json.loads(line).get("play"):
                    over = asyncio.Event()
                    faults = [Fault(**it) for it in fields]
                    plays.append(loop.create_task(_play_after(tuple(plays), faults, cluster, over)))
        finally:
            for task in plays:
                task.cancel()
            await asyncio.gather(*plays, return_exceptions=True)
            cluster.resume_all()


async def _play_after(
    before: Iterable[asyncio.Task[None]], faults: list[Fault], cluster: BreakableCluster, over: asyncio.Event
) -> None:
    await asyncio.gather(*before, return_exceptions=True)
    await play_all(faults, cluster, lambda it: _say(happened=it.as_dict()), over)


def _main() -> None:
    try:
        asyncio.run(_serve(ClusterOrder(**json.loads(sys.argv[1]))))
    except Exception as error:  # whatever it is, the other end must hear of it
        _say(cannot=f"{type(error).__name__}: {error}")
        sys.exit(2)


if __name__ == "__main__":
    _main()
