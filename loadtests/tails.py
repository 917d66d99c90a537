"""Tails: what slow, failing and overloaded nodes cost the callers of a client. ``python -m loadtests.tails [WHAT ...]``.

Here lives one measurement for each goal: a real cluster, a proxy before each node, clients in processes of their own. Never here:
the calling (``tail_caller``), or what happens on the way (``proxy``).

``cost`` compares with another checkout (``--before DIRECTORY``), alternating, by processor time per call: on a shared machine
times by the clock are noise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

from loadtests.faults.cluster import BreakableCluster, ClusterShape

__all__ = ["main"]

_CALLER: Final = str(Path(__file__).with_name("tail_caller.py"))
_ARRIVALS: Final = "loadtests.overload_caller"
_NAME: Final = "tails"
_SHAPE: Final = ClusterShape(nodes=3, replicas=2, proxied=True)

_SLOW_SECONDS: Final = 0.002
_CAPACITY: Final = 3 / _SLOW_SECONDS
_SHEDDING: Final = "stream.queue_seconds=0.02,stream.shed_after_seconds=0.05"
"""Limits of the overloaded nodes: they shed sooner than they do by default, so that an overload of seconds shows."""


async def _calls(cluster: BreakableCluster, *, code: Path | None = None, **order: Any) -> dict[str, Any]:
    """Have a process call for a while; returns what it saw. ``code`` is the checkout whose client it uses."""
    defaults = {"tasks": 8, "pause": 0.002, "seconds": 8.0, "warm_up": 2.0, "timeout": 1.0}
    seeds = [node.direct for node in cluster.nodes.values()] if order.pop("direct", False) else list(cluster.seeds)
    environment = dict(os.environ)
    order = defaults | order | {"seeds": seeds}
    if code is not None:
        order["code"] = str(code / "client")
        environment["PYTHONPATH"] = order["code"]
    return await _told_by([_CALLER], order, environment)


async def _told_by(program: list[str], order: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Have a process carry out an order; returns what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, json.dumps(order), stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise SystemExit(f"a caller ended with {process.returncode}")
    result: dict[str, Any] = json.loads(output)
    return result


def _told(name: str, seen: dict[str, Any]) -> None:
    extra = (seen["hedged_reads"] + seen["retries"]) / seen["calls"]
    print(
        f"  {name:28} {seen['calls']:8} calls  p50 {seen['p50']:7.2f}  p99 {seen['p99']:7.2f}  p99.9 {seen['p999']:7.2f} ms"
        f"  {seen['cpu_us']:5.1f} us CPU  extra {extra:.2%}  failed {seen['failed']}  avoided {len(seen['open'])}"
    )
    for failure in seen["failures"]:
        print(f"    {failure}")


async def cost(before: Path | None) -> None:
    """Async get, 50 tasks, no proxy: this checkout and the one before, in turn."""
    if before is None:
        print("cost: needs --before DIRECTORY, a checkout to compare with")
        return
    here = Path(__file__).parents[1]
    spent: dict[Path, list[float]] = {before: [], here: []}
    rates: dict[Path, list[float]] = {before: [], here: []}
    async with BreakableCluster(ClusterShape(nodes=3, replicas=2)) as cluster:
        for turn in range(8):
            for code in (before, here) if turn % 2 else (here, before):
                seen = await _calls(cluster, code=code, direct=True, tasks=50, pause=0.0, seconds=2.0, warm_up=0.7)
                spent[code].append(seen["cpu_us"])
                rates[code].append(seen["calls"] / 2.0)
    was, now = median(spent[before]), median(spent[here])
    print(f"cost: {was:.2f} us CPU a get before, {now:.2f} us now: {was / now:.0%} of the speed (goal: 80 %)")
    was, now = median(rates[before]), median(rates[here])
    print(f"      {was:.0f} gets/s before, {now:.0f} now: {now / was:.0%}, by the clock")


async def delayed() -> None:
    """One of three nodes answers 100 ms later."""
    async with BreakableCluster(_SHAPE) as cluster:
        for timeout in (1.0, 0.25):
            print(f"delayed: one of three nodes by 100 ms; timeout {timeout} s")
            healthy = await _calls(cluster, timeout=timeout)
            _told("healthy", healthy)
            cluster.proxies["n1"].delay(0.1, source=_NAME, direction="down")
            late = await _calls(cluster, timeout=timeout)
            _told("n1 delayed", late)
            cluster.proxies["n1"].heal()
            extra = (late["hedged_reads"] + late["retries"]) / late["calls"]
            print(
                f"  p99 {late['p99'] / healthy['p99']:.2f} x the healthy one (goal: 2); extra {extra:.2%} (goal: 5 %)"
            )


async def stragglers() -> None:
    """All nodes take 3 ms; one of three takes 20 times as long for one request in a hundred."""
    print("stragglers: every node 3 ms away; n1 takes 60 ms for 1 % of its requests")
    dice = random.Random(1)
    async with BreakableCluster(_SHAPE) as cluster:
        for id, proxy in cluster.proxies.items():
            proxy.straggle(lambda id=id: 0.06 if id == "n1" and dice.random() < 0.01 else 0.003, source=_NAME)  # type: ignore[misc]
        seen: dict[tuple[str, bool], dict[str, Any]] = {}
        for balancing in ("least_response_time", "primary"):
            for hedging in (False, True):
                options = {"hedging": hedging, "balancing": balancing}
                seen[balancing, hedging] = await _calls(cluster, options=options, seconds=12.0, tasks=16)
                _told(f"{balancing}{', hedged' if hedging else ''}", seen[balancing, hedging])
        for balancing in ("least_response_time", "primary"):
            share = seen[balancing, True]["p999"] / seen[balancing, False]["p999"]
            print(f"  {balancing}: p99.9 {share:.2f} x that without hedging (goal: 0.3)")


async def overload() -> None:
    """Three times what the nodes can do, for ten seconds, then as before."""
    rates = [(0.6 * _CAPACITY, 6.0), (3 * _CAPACITY, 10.0), (0.6 * _CAPACITY, 12.0)]
    print(f"overload: three nodes that can do {1 / _SLOW_SECONDS:.0f} reads a second each; {_SHEDDING}")
    shape = ClusterShape(options=("--limits", _SHEDDING), program=("loadtests.slow_node", str(_SLOW_SECONDS)))
    for hedging, clients in ((True, 8), (False, 8), (True, 60)):
        async with BreakableCluster(shape) as cluster:
            order = {"seeds": cluster.seeds, "hedging": hedging, "clients": clients, "phases": rates}
            seen = await _told_by(["-m", _ARRIVALS], order, dict(os.environ))
        print(f"  {clients} clients{', hedged' if hedging else ''}")
        for name, phase in zip(("before", "during", "after"), seen["phases"], strict=True):
            print(
                f"    {name:7} {phase['asked']:6} asked  {sum(phase['good']) / phase['asked']:7.2%} answered"
                f"  p99 {phase['p99']:6.1f} ms  repeated or hedged {phase['extra'] / phase['asked']:.2%}"
                f"  (the caller was late by {phase['late']:.0f} ms at most)"
            )
        after = seen["phases"][2]
        shares = [good / asked for good, asked in zip(after["good"], after["by_second"], strict=True) if asked]
        well = next((second for second in range(len(shares)) if min(shares[second:]) >= 0.95), None)
        total = seen["sent"] / sum(phase["asked"] for phase in seen["phases"])
        soon = "not at all" if well is None else f"from second {well + 1} on"
        print(f"    at least 95 % answered {soon} (goal: 10 s); sent {total:.3f} x what was asked (goal: 1.1)")
        print(f"    {seen['errors']}")


async def _main(arguments: argparse.Namespace) -> None:
    measurements = {"delayed": delayed, "stragglers": stragglers, "overload": overload}
    for name in arguments.what or ("cost", *measurements):
        if name == "cost":
            await cost(arguments.before)
        else:
            await measurements[name]()


def main() -> None:
    """Measure what the command line names, or everything."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.tails", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="cost, delayed, stragglers or overload")
    parser.add_argument("--before", type=Path, help="a checkout to compare the cost of a get with")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
