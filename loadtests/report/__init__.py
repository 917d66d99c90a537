"""Reports: what was measured, as one HTML file that needs nothing else.

Here lives drawing and the page. Never here: measuring.

    scale   numbers to places on an axis, and the ticks between
    chart   series to inline SVG
    frame   axes, marks, legend
    page    the document: style, light and dark, phone and print, tooltips
    run_report  the report of one run
"""

from __future__ import annotations

__all__: list[str] = []
