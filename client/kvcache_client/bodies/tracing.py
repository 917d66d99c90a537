"""Tracing: one OpenTelemetry span for each call of a client that asked for them.

Here lives what a span says. Never here: what a verb does. OpenTelemetry is an extra and imported only by a client made with
``tracing``; such a client's verbs are wrapped when it is made, so that one without pays nothing, not even a test.

Names follow OpenTelemetry's semantic conventions for database clients: ``db.system.name``, ``db.operation.name``,
``db.namespace`` (the prefix of keys), ``db.operation.batch.size``, ``server.address`` and ``server.port`` of the node that was
asked first, ``error.type``. Beside them, ``kvcache.nodes`` are the nodes that were asked, and ``kvcache.requests`` how often. A
key may hold what should not leave the program, so it is in no span unless ``trace_keys`` asks for it (``kvcache.key``).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Protocol, TypeVar, cast

from kvcache_client.core.brain import Brain
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import Ask, Effect, Plan, Race, Watched, Within
from kvcache_client.core.space import Space
from kvcache_client.protocol.errors import InvalidOption

__all__ = ["TRACED", "Tracing", "tracing_for"]

T = TypeVar("T")
S = TypeVar("S")

TRACED: Final = (
    *("get", "get_entry", "set", "add", "replace", "cas", "delete", "exists", "touch", "incr", "decr"),
    *("get_many", "set_many", "delete_many", "get_or_compute", "explain", "topology", "node_statistics"),
)
"""The verbs that get a span each."""

_BATCHES: Final = frozenset({"get_many", "set_many", "delete_many"})
_KEYLESS: Final = frozenset({"topology", "node_statistics"})


_span_of_call: Final[ContextVar[_Span | None]] = ContextVar("kvcache_span", default=None)
"""The span of the call under way, if it has one; the current span of OpenTelemetry may be the caller's."""


class _Span(Protocol):
    """What is used of OpenTelemetry's Span."""

    def set_attribute(self, key: str, value: Any) -> object:
        """Note something."""


class Tracing:
    """Wraps the verbs of a client and of its namespaces."""

    def __init__(self, tracer: Any, show_keys: bool) -> None:
        self._tracer = tracer
        self._show_keys = show_keys
        self._api = import_module("opentelemetry.trace")

    def wrap(self, client: Any, space: Space, *, awaited: bool) -> None:
        """Give ``client`` verbs of its own, each of which opens a span around that of its class."""
        around = _awaited if awaited else _called
        for verb in TRACED:
            plain = getattr(client, verb, None)
            if plain is not None:
                setattr(client, verb, around(plain, functools.partial(self._span, verb, space)))

    def observing(self, session: S) -> S:
        """Return what stands for ``session`` and notes in a call's span whom the call asks."""
        return cast("S", _Observed(session))

    @contextmanager
    def _span(self, verb: str, space: Space, arguments: tuple[Any, ...], options: dict[str, Any]) -> Iterator[None]:
        attributes: dict[str, Any] = {"db.system.name": "kvcache", "db.operation.name": verb}
        if space.prefix:
            attributes["db.namespace"] = space.prefix.decode(errors="backslashreplace")
        if verb in _BATCHES and arguments and hasattr(arguments[0], "__len__"):
            attributes["db.operation.batch.size"] = len(arguments[0])
        elif self._show_keys and verb not in _KEYLESS:
            key = arguments[0] if arguments else options.get("key", "")
            attributes["kvcache.key"] = key if isinstance(key, str) else repr(key)
        opened: AbstractContextManager[_Span] = self._tracer.start_as_current_span(
            verb, kind=self._api.SpanKind.CLIENT, attributes=attributes
        )
        with opened as span:
            before = _span_of_call.set(span)
            try:
                yield
            except BaseException as error:  # a cancelled call has ended too; the span itself records what it was
                span.set_attribute("error.type", type(error).__qualname__)
                raise
            finally:
                _span_of_call.reset(before)

    def __repr__(self) -> str:
        return f"<Tracing by {self._tracer!r} keys={'shown' if self._show_keys else 'hidden'}>"


class _Observed:
    """A session whose plans are looked at; in everything else it is that session."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, plan: Plan[Any]) -> Any:
        """Drive a plan, as the session does."""
        span = _span_of_call.get()
        return self._session.run(plan if span is None else _noting(span, self._session.brain, plan))

    def __repr__(self) -> str:
        return repr(self._session)


def _noting(span: _Span, brain: Brain, plan: Plan[T]) -> Plan[T]:
    """Return the same plan, which notes in ``span`` whom it asks."""
    asked: list[str] = []
    try:
        effect = next(plan)
        while True:
            asked += _nodes_of(effect)
            effect = plan.send((yield effect))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # a StopIteration carries what the plan returns
    finally:
        plan.close()
        _note_nodes(span, brain, asked)


def tracing_for(config: ClientConfig) -> Tracing | None:
    """Return what ``config`` asks for. Raises ``InvalidOption`` without the package, or if it is no tracer."""
    if config.tracing is False:
        return None
    try:
        trace = import_module("opentelemetry.trace")
    except ImportError as error:
        raise InvalidOption("tracing needs a package: pip install 'kvcache[otel]'") from error
    tracer = trace.get_tracer("kvcache_client", _version()) if config.tracing is True else config.tracing
    if not hasattr(tracer, "start_as_current_span"):
        raise InvalidOption(f"tracing={config.tracing!r:.60}: must be True, False or an OpenTelemetry tracer")
    return Tracing(tracer, config.trace_keys)


def _version() -> str | None:
    try:
        return version("kvcache")
    except PackageNotFoundError:  # the client's source on a path of its own
        return None


_OpenSpan = Callable[[tuple[Any, ...], dict[str, Any]], AbstractContextManager[None]]


def _awaited(plain: Callable[..., Awaitable[T]], span: _OpenSpan) -> Callable[..., Awaitable[T]]:
    @functools.wraps(plain)
    async def traced(*arguments: Any, **options: Any) -> T:
        with span(arguments, options):
            return await plain(*arguments, **options)

    return traced


def _called(plain: Callable[..., T], span: _OpenSpan) -> Callable[..., T]:
    @functools.wraps(plain)
    def traced(*arguments: Any, **options: Any) -> T:
        with span(arguments, options):
            return plain(*arguments, **options)

    return traced


def _nodes_of(effect: Effect) -> list[str]:
    """Return the node of each request that an effect sends."""
    asks: list[Ask] = []
    if effect.__class__ is tuple:
        asks = [effect]  # type: ignore[list-item]  # the class was just compared
    elif isinstance(effect, list):
        asks = effect
    elif isinstance(effect, Within | Watched):
        asks = effect.round
    elif isinstance(effect, Race):
        asks = effect.others
    return [node for node, _ in asks]


def _note_nodes(span: _Span, brain: Brain, asked: list[str]) -> None:
    if not asked:
        return
    span.set_attribute("kvcache.nodes", sorted(set(asked)))
    span.set_attribute("kvcache.requests", len(asked))
    address = brain.view.addresses.get(asked[0], "") if brain.view else ""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        span.set_attribute("server.address", host)
        span.set_attribute("server.port", int(port))
