"""Output: values, tables and JSON on stdout.

Here lives how things look. Never here: where they come from.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from kvcache_client.protocol.codec import Value

__all__ = ["print_json", "print_table", "print_value", "to_json"]

_WIDE: Final = 200
"""Columns of a table that no terminal shows: nothing is folded for a pipe."""


def to_json(thing: Any) -> str:
    """Return JSON in one line; bytes become ``{"base64": ...}``, sets lists, times and exact numbers text."""
    return json.dumps(_plain(thing), ensure_ascii=False)


def _plain(thing: Any) -> Any:
    if isinstance(thing, bytes):
        return {"base64": base64.b64encode(thing).decode()}
    if isinstance(thing, dict):  # JSON's keys are text, ours need not be
        return {key if isinstance(key, str) else to_json(key): _plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_plain(item) for item in thing]
    if isinstance(thing, set | frozenset):
        return sorted((_plain(item) for item in thing), key=str)
    if isinstance(thing, date | time):
        return thing.isoformat()
    if isinstance(thing, timedelta | Decimal | UUID):
        return str(thing)
    return thing


def print_json(thing: Any) -> None:
    """Print one line of JSON."""
    print(to_json(thing), flush=True)


def print_value(value: Value) -> None:
    """Print a value: text as it is, bytes as they are (no line end is added in a pipe), everything else as JSON."""
    if isinstance(value, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(value + (b"\n" if sys.stdout.isatty() else b""))
    else:
        text = value if isinstance(value, str) else to_json(value)
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode() + b"\n")  # UTF-8, whatever the locale
    sys.stdout.buffer.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; a None is shown as a dash, numbers stand to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    cells = [tuple(row) for row in rows]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, column in enumerate(columns):
        numbers = all(isinstance(row[place], int | float | None) for row in cells)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in cells:
        table.add_row(*("-" if cell is None else str(cell) for cell in row), style=None)
    console.print(table)
