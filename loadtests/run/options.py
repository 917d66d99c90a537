"""Options: what a run may be told, on Locust's command line, by environment variables and in its web form.

Here lives each option and its check. Never here: what it does. Locust shows the options in its web form by itself; what comes
back from there is checked again whenever a run starts.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kvcache.options import OPTIONS, parse_option
from kvcache_client.placement.layout import MAX_REPLICATION_FACTOR
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.limits import VALUE_BYTES_CAP
from loadtests import CannotRun
from loadtests.adapters import ADAPTERS
from loadtests.run.shapes import SHAPES
from loadtests.run.slo import Slo, parse_slo
from loadtests.users.keys import KEYS_AT_MOST
from loadtests.users.mixture import Mixture, parse_mixture

__all__ = [
    "DEFAULT_HOST",
    "LoadOptions",
    "add_options",
    "check_cluster_options",
    "options_for",
    "options_of",
    "settings_of",
    "typed_options",
]

DEFAULT_HOST: Final = "kvcache://127.0.0.1:7700"
_NODES_AT_MOST: Final = 64
_SEED_AT_MOST: Final = 10**18


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """A run as it was asked for. Times are seconds; see ``add_options`` for what each means."""

    cache: str
    host: str
    timeout: float
    keys: int
    zipf: float
    value_sizes: Mixture
    ttls: Mixture
    batch: int
    hot_keys: int
    stale: float
    think: float
    rate: float
    shape: str
    run_time: float
    trace: str
    preload: bool
    slo: Slo
    report: str
    seed: int


def add_options(parser: Any) -> None:
    """Add the options to Locust's parser."""
    add = _adder(parser.add_argument_group("kvcache", "What is asked for"), in_form=True)
    add("--cache", choices=list(ADAPTERS), default="kvcache", help="the cache under load, which answers at --host")
    add("--cache-timeout", type=float, default=1.0, help="seconds that one call may take (default 1)")
    add("--keys", type=int, default=10_000, help="keys of each Locust process (default 10000)")
    add("--zipf", type=float, default=0.99, help="Zipf exponent of their popularity; 0 is uniform (default 0.99)")
    add("--value-sizes", default="100", help="bytes of values, as 64:50,256-1024:40,8192:10 (default 100)")
    add("--ttls", default="none", help="seconds that values live, as none:50,60:30,1-5:20 (default none)")
    add("--batch", type=int, default=20, help="keys of a get_many or set_many (default 20)")
    add("--hot-keys", type=int, default=5, help="keys of Stampede, and counters of Counter (default 5)")
    add("--stale", type=float, default=1.0, help="seconds for which Stampede takes an outdated value (default 1)")
    add("--think", type=float, default=0.0, help="seconds that a user waits between operations, on average (default 0)")
    add("--rate", type=float, default=0.0, help="open arrivals: operations/s of all users; 0 is closed (default 0)")
    add(
        "--shape",
        choices=list(SHAPES),
        default="steady",
        help="how users, or the rate, go up and down (default steady)",
    )
    add("--trace", default="", help="what TraceUser replays: a file, or a name in the trace folder (default twitter)")
    add("--preload", choices=["yes", "no"], default="yes", help="write every key before the run (default yes)")
    add("--slo", default="", help='what makes the run fail, as "get.p99<20ms,failed<0.1%%,lost=0"')
    add("--report", default="", help="write one self-contained HTML file")
    add("--seed", type=int, default=1, help="seed of all that is drawn (default 1)")
    _add_cluster_options(parser)


def _adder(group: Any, *, in_form: bool) -> Callable[..., None]:
    """Return what adds an option to a group. In a group, Locust's parser does not mark options for its web form itself."""

    def add(*names: str, **keywords: Any) -> None:
        action = group.add_argument(*names, **keywords)
        action.include_in_web_ui = in_form
        action.is_secret = action.is_required = action.is_multiple = False

    return add


def _add_cluster_options(parser: Any) -> None:
    # Started before there is a page, so not in its form.
    group = parser.add_argument_group("kvcache: a cluster of its own", "Started before the run and stopped after it")
    add = _adder(group, in_form=False)
    add("--start-cluster", action="store_true", help="start a cluster on this machine instead of using --host")
    add("--nodes", type=int, default=3, help="its nodes (default 3)")
    add("--replicas", type=int, default=2, help="copies of each record in it (default 2)")
    add("--node-memory", default="128MiB", help="memory of each of its nodes (default 128MiB)")
    add("--faults", default="", help="a TOML file that says what breaks when; needs --start-cluster")


def options_of(parsed: argparse.Namespace) -> LoadOptions:
    """Return the checked options. Raises ``CannotRun`` that names the option, its value and what it may be."""
    shape = _choice("--shape", parsed.shape, SHAPES)
    run_time = float(parsed.run_time or 0)
    if shape != "steady" and not run_time:
        raise CannotRun(f"--shape {shape} needs --run-time: the shape goes over the whole of it")
    return LoadOptions(
        cache=_choice("--cache", parsed.cache, ADAPTERS),
        host=parsed.host or DEFAULT_HOST,
        timeout=_number("--cache-timeout", parsed.cache_timeout, 0.001, 3600),
        keys=_whole("--keys", parsed.keys, 1, KEYS_AT_MOST),
        zipf=_number("--zipf", parsed.zipf, 0, 10),
        value_sizes=_sizes(parsed.value_sizes),
        ttls=_mixture("--ttls", parsed.ttls, none=True),
        batch=_whole("--batch", parsed.batch, 1, 10_000),
        hot_keys=_whole("--hot-keys", parsed.hot_keys, 1, 10_000),
        stale=_number("--stale", parsed.stale, 0, 86_400),
        think=_number("--think", parsed.think, 0, 3600),
        rate=_number("--rate", parsed.rate, 0, 10_000_000),
        shape=shape,
        run_time=run_time,
        trace=str(parsed.trace),
        preload=_choice("--preload", parsed.preload, ("yes", "no")) == "yes",
        slo=_slo(parsed.slo),
        report=str(parsed.report or ""),
        seed=_whole("--seed", parsed.seed, -_SEED_AT_MOST, _SEED_AT_MOST),
    )


def options_for(parsed: argparse.Namespace, users: Iterable[Any]) -> LoadOptions:
    """Return the checked options for a run of these classes: an SLO about a verb that none of them calls is refused, too."""
    options = options_of(parsed)
    called = list(dict.fromkeys(verb for it in users for verb in (*getattr(it, "mix", ()), *getattr(it, "also", ()))))
    for term in options.slo:
        if term.verb and term.verb not in called:
            raise CannotRun(
                f"--slo: {term.text!r}: no user of this run calls {term.verb!r}; they call: {', '.join(called)}"
            )
    return options


def typed_options(parsed: argparse.Namespace, form: Mapping[str, str], run_time: float | None) -> argparse.Namespace:
    """Return the options with what was typed into the web form; ``run_time`` is what that says there, None for no end."""
    typed = {name: text for name, text in form.items() if name in vars(parsed)}
    return argparse.Namespace(**{**vars(parsed), **typed, "run_time": run_time})


def check_cluster_options(parsed: argparse.Namespace) -> None:
    """Check what is asked of a cluster that is to be started. Raises ``CannotRun`` as ``options_of`` does."""
    nodes = _whole("--nodes", parsed.nodes, 1, _NODES_AT_MOST)
    _whole("--replicas", parsed.replicas, 1, MAX_REPLICATION_FACTOR)
    _whole(f"--nodes {nodes} --replicas", parsed.replicas, 1, nodes)
    try:
        parse_option(OPTIONS["memory"], parsed.node_memory, "--node-memory")
    except InvalidOption as error:
        raise CannotRun(str(error)) from error


def settings_of(options: LoadOptions, parsed: Any) -> dict[str, str]:
    """Return what a reader of the report must know of the options."""
    arrivals = f"open, {options.rate:g} operations/s" if options.rate else "closed"
    own = f"started for the run: {parsed.nodes} nodes, {parsed.replicas} copies, {parsed.node_memory} each"
    return {
        "cluster": own if parsed.start_cluster else options.host,
        "users": f"{parsed.num_users or 1}",
        "arrivals": f"{arrivals}, shape {options.shape}",
        "think time": f"{options.think:g} s" if options.think else "none",
        "keys": f"{options.keys:,} of each process, Zipf {options.zipf:g}, {'loaded before' if options.preload else 'cold'}",
        "value sizes": f"{options.value_sizes.text} bytes",
        "times to live": "for ever" if options.ttls.text == "none" else f"{options.ttls.text} s",
        "call timeout": f"{options.timeout:g} s",
        "seed": str(options.seed),
    }


def _number(option: str, raw: Any, low: float, high: float) -> float:
    try:
        number = float(raw)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise CannotRun(f"{option} {raw!r}: it must be a number from {low:g} to {high:g}")
    return number


def _whole(option: str, raw: Any, low: int, high: int) -> int:
    try:
        number = int(raw)
    except (TypeError, ValueError):
        number = low - 1
    if not low <= number <= high:
        raise CannotRun(f"{option} {raw!r}: it must be a whole number from {low} to {high}")
    return number


def _choice(option: str, raw: Any, choices: Any) -> str:
    if raw not in choices:
        raise CannotRun(f"{option} {raw!r}: it must be one of {', '.join(choices)}")
    return str(raw)


def _mixture(option: str, raw: Any, *, none: bool = False) -> Mixture:
    try:
        return parse_mixture(str(raw), none=none)
    except ValueError as error:
        raise CannotRun(f"{option}: {error}") from error


def _sizes(raw: Any) -> Mixture:
    sizes = _mixture("--value-sizes", raw)
    if (sizes.largest or 0) > VALUE_BYTES_CAP:
        raise CannotRun(f"--value-sizes {raw!r}: a value can have {VALUE_BYTES_CAP} bytes at most")
    return sizes


def _slo(raw: Any) -> Slo:
    try:
        return parse_slo(str(raw or ""))
    except ValueError as error:
        raise CannotRun(f"--slo: {error}") from error
