"""The page: one self-contained HTML file, for a screen, a phone or paper.

Here lives the frame, tables and cards. Never here: charts, or what is in a report. ``page.css`` (light, dark, phone, print) and
``page.js`` (values under the pointer) are written into the page: nothing is fetched from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final, Literal

__all__ = ["Card", "cards", "page", "pairs", "section", "table"]

Tone = Literal["", "good", "bad"]

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Card:
    """A figure in large type, with what it is below."""

    value: str
    label: str
    tone: Tone = ""


def page(title: str, subtitle: str, body: Sequence[str], *, verdict: tuple[str, Tone] | None = None) -> str:
    """Return the whole document."""
    style, script = (_HERE.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    badge = f'<p class="verdict {verdict[1]}">{escape(verdict[0])}</p>' if verdict else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>{badge}</header>"
        f"{''.join(body)}</main><script>{script}</script></body></html>\n"
    )


def section(title: str, *parts: str, columns: bool = False) -> str:
    """Return a titled part; ``columns`` puts its parts side by side where there is room."""
    inner = "".join(parts)
    body = f'<div class="grid2">{inner}</div>' if columns else inner
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def cards(items: Sequence[Card]) -> str:
    """Return a row of cards."""
    cells = (
        f'<div class="card"><b class="{it.tone}">{escape(it.value)}</b><span>{escape(it.label)}</span></div>'
        for it in items
    )
    return f'<div class="cards">{"".join(cells)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], tones: Sequence[Tone] = ()) -> str:
    """Return a table. ``tones`` colour the last column, row by row."""
    top = "".join(f"<th>{escape(it)}</th>" for it in head)
    body = "".join(_row(row, tones[at] if at < len(tones) else "") for at, row in enumerate(rows))
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs(items: Mapping[str, str]) -> str:
    """Return names and what they are, in two columns."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class='text'>{escape(text)}</td></tr>" for name, text in items.items()
    )
    return f'<div class="scroll"><table class="pairs"><tbody>{rows}</tbody></table></div>'


def _card(card: Card) -> str:
    return f'<div class="card"><b class="{card.tone}">{escape(card.value)}</b><span>{escape(card.label)}</span></div>'


def _row(cells: Sequence[str], tone: Tone) -> str:
    last = len(cells) - 1
    return (
        "<tr>"
        + "".join(f'<td class="{tone if at == last else ""}">{escape(cell)}</td>' for at, cell in enumerate(cells))
        + "</tr>"
    )
