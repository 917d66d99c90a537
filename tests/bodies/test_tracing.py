"""Spans of both clients, as OpenTelemetry's own SDK collects them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from client_faces import CLIENTS, Face
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kvcache_client import ClientConfig, InvalidOption, Unavailable, UnsupportedValue
from kvcache_client.bodies import tracing
from kvcache_client.bodies.tracing import TRACED

PATIENT = {"timeout": 5.0, "connect_timeout": 5.0}


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> Any:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider.get_tracer("test")


@pytest.fixture(params=list(CLIENTS))
async def open_face(request: pytest.FixtureRequest, tracer: Any) -> Any:
    faces: list[Face] = []

    def make(seeds: str, **options: Any) -> Face:
        config = ClientConfig(**{**PATIENT, "tracing": tracer, **options})
        faces.append(Face(CLIENTS[request.param](seeds, config=config)))
        return faces[-1]

    yield make
    for face in faces:
        await face.close()


async def test_every_call_has_one_span_with_the_conventions_attributes(
    open_face: Callable[..., Face], spans: InMemorySpanExporter, one_node: Any
) -> None:
    cache = open_face(one_node.seeds).namespace("traced:")
    await cache.set("secret key", 1)
    assert await cache.get("secret key") == 1
    assert await cache.get_many(["secret key", "b"]) == {"secret key": 1}
    host, _, port = one_node.addresses[0].rpartition(":")
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["set", "get", "get_many"]
    for span in found:
        assert span.kind is SpanKind.CLIENT
        assert span.status.status_code is StatusCode.UNSET
        attributes = dict(span.attributes or {})
        assert attributes.pop("kvcache.nodes") == (one_node.nodes[0].id,)
        assert attributes.pop("db.operation.batch.size", None) == (2 if span.name == "get_many" else None)
        assert attributes == {
            "db.system.name": "kvcache",
            "db.operation.name": span.name,
            "db.namespace": "traced:",
            "server.address": host,
            "server.port": int(port),
            "kvcache.requests": 1,
        }


async def test_a_write_names_all_nodes_that_were_asked(
    open_face: Callable[..., Face], spans: InMemorySpanExporter, three_nodes: Any
) -> None:
    cache = open_face(three_nodes.seeds)
    await cache.set("traced", 1)
    attributes = spans.get_finished_spans()[0].attributes or {}
    assert len(attributes["kvcache.nodes"]) == attributes["kvcache.requests"] == 2  # type: ignore[arg-type]
    assert "db.namespace" not in attributes


async def test_keys_are_shown_only_where_that_is_asked_for(
    open_face: Callable[..., Face], spans: InMemorySpanExporter, one_node: Any
) -> None:
    cache = open_face(one_node.seeds, trace_keys=True)
    await cache.get("traced key")
    await cache.get(key=b"\xff")
    assert [(span.attributes or {})["kvcache.key"] for span in spans.get_finished_spans()] == ["traced key", "b'\\xff'"]


async def test_errors_are_recorded_and_go_on(
    open_face: Callable[..., Face], spans: InMemorySpanExporter, one_node: Any
) -> None:
    cache = open_face(one_node.seeds)
    with pytest.raises(UnsupportedValue):
        await cache.set("traced", object())
    lost = open_face("127.0.0.1:1", timeout=0.2, connect_timeout=0.2)
    with pytest.raises(Unavailable):
        await lost.get("traced")
    found = spans.get_finished_spans()
    assert [(span.attributes or {})["error.type"] for span in found] == ["UnsupportedValue", "Unavailable"]
    for span in found:
        assert span.status.status_code is StatusCode.ERROR
        assert span.events[0].name == "exception"


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
def test_a_client_that_is_not_traced_has_the_verbs_of_its_class_and_no_others(make: type[Any], tracer: Any) -> None:
    plain = make("127.0.0.1:1")
    assert not {*TRACED, "run"} & vars(plain).keys()
    assert not {*TRACED, "run"} & vars(plain.session if hasattr(plain, "session") else plain._session).keys()
    assert "get" in vars(make("127.0.0.1:1", config=ClientConfig(tracing=tracer)))


def test_every_verb_that_takes_a_key_is_traced() -> None:
    for make in CLIENTS.values():
        public = {name for name, thing in vars(make).items() if callable(thing) and not name.startswith("_")}
        untraced = public - set(TRACED)
        assert untraced <= {"run", "namespace", "lock", "stats", "close", "cached"}, untraced


def test_nothing_is_imported_unless_it_is_asked_for() -> None:
    program = (
        "import sys, kvcache_client; kvcache_client.Client('127.0.0.1:1');"
        "print(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
def test_options_of_tracing_that_make_no_sense_are_refused(make: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidOption, match="trace_keys=True and tracing=False contradict each other"):
        ClientConfig(trace_keys=True)
    with pytest.raises(InvalidOption, match="tracing='yes': must be True, False or an OpenTelemetry tracer"):
        make(config=ClientConfig(tracing="yes"))
    make(config=ClientConfig(tracing=True))

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(tracing, "import_module", missing)
    with pytest.raises(InvalidOption, match=r"pip install 'kvcache\[otel\]'"):
        make(config=ClientConfig(tracing=True))
