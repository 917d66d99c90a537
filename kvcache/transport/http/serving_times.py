"""Serving times: how long HTTP requests take, by what they ask for.

Here lives which operation a request is, and its histogram. Never here: the clock, or the routes themselves (``routes``).

Unlike the handling of the stream's verbs (``transport.watch``) this is what a caller waits for: from the whole header to the
answer, with the body that is still on its way and the owners of the keys in it.
"""

from __future__ import annotations

from typing import Any, Final

from kvcache.histogram import SERVICE_SECONDS, Histogram
from kvcache.transport.http.routes import ROUTES, prefix_of

__all__ = ["NOTHING", "ServingTimes"]

NOTHING: Final = "nothing"
"""The operation of requests for which there is no route. Only names of the table become labels: peers can't make new ones."""

_EXACT: Final = {(route.method, route.path): route.handler for route in ROUTES if "{" not in route.path}
_PREFIXES: Final = [(route.method, prefix_of(route.path), route.handler) for route in ROUTES if "{" in route.path]


class ServingTimes:
    """A histogram for each operation that was ever asked for."""

    __slots__ = ("_by_operation",)

    def __init__(self) -> None:
        self._by_operation: dict[str, Histogram] = {}

    def served(self, method: str, path: str, seconds: float) -> None:
        """Count one answered request."""
        operation = _operation("GET" if method == "HEAD" else method, path)
        histogram = self._by_operation.get(operation)
        if histogram is None:
            histogram = self._by_operation[operation] = Histogram(SERVICE_SECONDS)
        histogram.add(seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, by the names of the operations."""
        return {operation: histogram.as_dict() for operation, histogram in self._by_operation.items()}

    def __repr__(self) -> str:
        return f"<ServingTimes counted={sum(it.count for it in self._by_operation.values())}>"


def _operation(method: str, path: str) -> str:
    exact = _EXACT.get((method, path))
    if exact is not None:
        return exact
    named = (handler for verb, prefix, handler in _PREFIXES if verb == method and path.startswith(prefix))
    return next(named, NOTHING)
