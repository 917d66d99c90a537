"""The OpenAPI document: made from the table of routes, and true of a live node."""

from __future__ import annotations

import copy
import json
import time
from collections import Counter

import msgpack
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as conformance

from kvcache.cluster.operator import Operator
from kvcache.transport.http.openapi import openapi_document
from kvcache.transport.http.routes import ROUTES

DOCUMENT = openapi_document("0")
OPERATIONS = [f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods]
CHECKS = [
    not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
]
ENDLESS = "GET /v1/events"
"""Its answer never ends; ``test_http_dashboard`` asks for it."""

PATIENT = settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PATIENCE_SECONDS = 35.0
"""What all generated requests together may take."""


@schemathesis.serializer("application/msgpack")
def as_msgpack(_context, value):
    return msgpack.packb(value, default=str)


class Silent:
    """An admin whose operations are never carried out."""

    def __getattr__(self, name):
        return lambda *arguments, **more: None


async def test_the_document_is_served_to_anybody(world):
    answer = await world.ask("GET", "/openapi.json")
    assert answer.status == 200
    document = json.loads(answer.body)
    assert document["openapi"].startswith("3.1")
    assert document["paths"] == json.loads(json.dumps(DOCUMENT["paths"]))


def test_every_admin_operation_is_in_the_table_with_its_arguments():
    operator = Operator(Silent())
    described = {r.path.rpartition("/")[2]: r for r in ROUTES if r.handler == "admin.post"}
    assert set(described) == set(operator.changing)
    assert {r.path.rpartition("/")[2] for r in ROUTES if r.handler == "admin.get"} == set(operator.reading)


def test_the_document_is_valid_openapi():
    schemathesis.openapi.from_dict(DOCUMENT).validate()


async def test_no_path_of_the_document_is_unknown_and_each_says_which_methods_it_has(world):
    for route in ROUTES:
        answer = await world.ask("PATCH", route.path.replace("{key}", "k").replace("{file}", "app.js"))
        assert answer.status == 405, route.path
        assert route.method in answer.headers["Allow"]


def ask_everything(address: str, document: dict, end: float) -> Counter[str]:
    """Ask what is generated from the document until ``end``; return how often each operation was asked."""
    asked: Counter[str] = Counter()

    def ask(case: schemathesis.Case) -> None:
        if time.monotonic() < end:
            asked[case.operation.label] += 1
            case.call_and_validate(base_url=f"http://{address}", checks=CHECKS, timeout=10)

    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        if found.ok().label == ENDLESS:
            continue
        fitting = found.ok().as_strategy(generation_mode=GenerationMode.POSITIVE)
        unfitting = found.ok().as_strategy(generation_mode=GenerationMode.NEGATIVE)
        PATIENT(given(case=fitting | unfitting)(ask))()
    return asked


@pytest.mark.slow
def test_a_live_node_answers_as_the_document_says_whatever_it_is_asked(start_node, coordinator):
    """Requests that fit the document, and some that do not: no 5xx, no status and no form that is not in it."""
    node = start_node(cluster="described", coordinator=coordinator)
    asked = ask_everything(node.address, DOCUMENT, time.monotonic() + PATIENCE_SECONDS)
    assert set(asked) == set(OPERATIONS) - {ENDLESS}, "there was no time for all"


def test_a_status_that_is_not_in_the_document_is_noticed(one_node):
    paths = {"/v1/kv/{key}": {"delete": copy.deepcopy(DOCUMENT["paths"]["/v1/kv/{key}"]["delete"])}}
    del paths["/v1/kv/{key}"]["delete"]["responses"]["404"]
    with pytest.raises(FailureGroup):
        ask_everything(one_node.addresses[0], DOCUMENT | {"paths": paths}, time.monotonic() + PATIENCE_SECONDS)
