"""``kvcache get``, ``set``, ``del``, ``explain``: single keys of a running cluster.

Here lives the command line of four verbs. Never here: the verbs themselves (``kvcache_client``).
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvcache.commands.outcome import ExitCode, reported
from kvcache.commands.output import print_json, print_table, print_value
from kvcache.option_values import parse_duration
from kvcache_client.protocol.codec import Value
from kvcache_client.protocol.errors import UnsupportedValue

if TYPE_CHECKING:
    from kvcache_client.blocking import Client

__all__ = ["AsJson", "Seeds", "Timeout", "connect", "delete", "explain", "get", "put"]

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key, as text.", show_default=False)]
Seeds = Annotated[
    str, typer.Option(envvar="KVCACHE_SEEDS", metavar="HOST:PORT,...", help="Nodes to ask first; one must live.")
]
Timeout = Annotated[
    float, typer.Option(envvar="KVCACHE_TIMEOUT", metavar="SECONDS", min=0.001, help="How long a call may take.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

DEFAULT_SEEDS = "127.0.0.1:7700"
DEFAULT_TIMEOUT = 2.0
"""Seconds: a person waits longer than a program."""


def connect(seeds: str, timeout: float) -> Client:
    """Return a client."""
    from kvcache_client.blocking import Client

    return Client(seeds, timeout=timeout)


@reported
def get(key: Key, seeds: Seeds = DEFAULT_SEEDS, timeout: Timeout = DEFAULT_TIMEOUT, as_json: AsJson = False) -> None:
    """Print the value of a key: text and bytes as they are, everything else as JSON."""
    with connect(seeds, timeout) as cache:
        entry = cache.get_entry(key)
    if entry is None:
        sys.stderr.write(f"not found: {key}\n")
        raise typer.Exit(ExitCode.NEGATIVE)
    if as_json:
        print_json({"key": key, "value": entry.value, "version": entry.version, "ttl": entry.ttl})
    else:
        print_value(entry.value)


@reported
def put(
    key: Key,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="The value, as text; - reads it from stdin.", show_default=False)
    ],
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Time to live: seconds, or text like 5m or 1h30m.")
    ] = None,
    json_value: Annotated[
        bool, typer.Option("--json-value", help="VALUE is JSON, to be stored as what it says.")
    ] = False,
    seeds: Seeds = DEFAULT_SEEDS,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Store a value under a key. What stdin brings is stored as text, or as bytes if it is not UTF-8."""
    raw = sys.stdin.buffer.read() if value == "-" else value.encode("utf-8", "surrogateescape")
    stored = _from_json(raw) if json_value else _text_or_bytes(raw)
    with connect(seeds, timeout) as cache:
        cache.set(key, stored, ttl=None if ttl is None else parse_duration(ttl))


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _from_json(raw: bytes) -> Value:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise UnsupportedValue(f"VALUE is not JSON: {error}") from error


@reported
def delete(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="The keys.", show_default=False)],
    seeds: Seeds = DEFAULT_SEEDS,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Delete keys, and print how many were there. Exit code 1 says that one or more were not."""
    with connect(seeds, timeout) as cache:
        deleted = sum([cache.delete(key) for key in keys])
    print(deleted)
    if deleted < len(keys):
        raise typer.Exit(ExitCode.NEGATIVE)


@reported
def explain(
    key: Key, seeds: Seeds = DEFAULT_SEEDS, timeout: Timeout = DEFAULT_TIMEOUT, as_json: AsJson = False
) -> None:
    """Show where a key lives and why: its owners and stand-ins, what each holds, and which one a read would ask."""
    with connect(seeds, timeout) as cache:
        report = cache.explain(key).as_dict()
    if as_json:
        print_json(report)
        return
    print(f"key {report['key']!r} is in partition {report['partition']} (epoch {report['epoch']})")
    if report["read_from"]:
        print(f"a read would ask {report['read_from']} ({report['balancing']})")
    if report["move"]:
        print(f"data moves: {report['move']}")
    print_table(
        ("node", "address", "role", "zone", "member", "state", "version", "expires", "holds", "why"),
        [
            (
                copy["node"],
                copy["address"],
                copy["role"],
                copy["zone"] or None,
                copy["member"] or None,
                copy["state"],
                copy["version"],
                _moment(copy["expiry_ms"]),
                _holding(copy),
                copy["why"] or None,
            )
            for copy in report["copies"]
        ],
    )
    for copy in report["copies"]:
        if copy["last_error"]:
            print(f"last error of {copy['node']}: {copy['last_error']}")


def _moment(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _holding(copy: dict[str, Any]) -> str:
    if copy["error"]:
        return str(copy["error"])
    if copy["version"] is None:
        return "nothing"
    kept = "a tombstone" if copy["tombstone"] else "a record"
    return f"{kept}, kept for {', '.join(copy['kept_for'])}" if copy["kept_for"] else kept
