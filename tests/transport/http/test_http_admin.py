"""Admin operations over HTTP: their form, and the refusal of what another site had a browser send."""

import json

import pytest

JSON = {"Content-Type": "application/json"}
PURGE = "/v1/admin/purge"
WISH = json.dumps({"prefix": "shop:"}).encode()


def told(answer):
    return json.loads(answer.body)


async def test_an_operation_is_carried_out_with_its_arguments(world):
    answer = await world.ask("POST", PURGE, WISH, **JSON)
    assert (answer.status, told(answer)) == (200, {"result": ["done"]})
    assert world.node.operations.asked == [("purge", {"prefix": "shop:"})]


async def test_what_is_only_looked_at_is_asked_by_get(world):
    answer = await world.ask("GET", "/v1/admin/status")
    assert (answer.status, told(answer)) == (200, {"healthy": True})
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("method", "target"), [("GET", PURGE), ("POST", "/v1/admin/status"), ("PUT", PURGE)])
async def test_the_wrong_method_is_told(world, method, target):
    answer = await world.ask(method, target, b"{}" if method != "GET" else None, **JSON)
    assert answer.status == 405
    assert world.node.operations.asked == []


@pytest.mark.parametrize("target", ["/v1/admin/", "/v1/admin/nothing", "/v1/admin/purge/more"])
async def test_an_unknown_operation_names_the_known_ones(world, target):
    answer = await world.ask("POST", target, b"{}", **JSON)
    assert answer.status == 404
    assert "purge" in told(answer)["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_what_a_form_can_send_is_refused(world, kind):
    answer = await world.ask("POST", PURGE, WISH, **{"Content-Type": kind})
    assert answer.status == 415
    assert world.node.operations.asked == []


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1", "null", "http://127.0.0.1:1"])
async def test_another_site_is_refused(world, origin):
    answer = await world.ask("POST", PURGE, WISH, Origin=origin, **JSON)
    assert answer.status == 403
    assert world.node.operations.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1:7700", "localhost:7700", "[::1]:7700"])
async def test_a_page_of_the_node_itself_may_ask(world, host):
    wire = await world.connect()
    head = f"POST {PURGE} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Type: application/json\r\n"
    wire.writer.write(f"{head}Content-Length: {len(WISH)}\r\n\r\n".encode() + WISH)
    answer = await wire.answer()
    assert answer.status == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff", b"[" * 60_000])
async def test_a_body_that_is_no_json_object_is_refused(world, body):
    answer = await world.ask("POST", PURGE, body, **JSON)
    assert (answer.status, told(answer)["error"]) == (400, "InvalidOption")
    assert world.node.operations.asked == []


async def test_a_body_that_is_too_large_is_refused(world):
    assert (await world.ask("POST", PURGE, b" " * 70_000, **JSON)).status == 413


async def test_an_error_of_the_operation_is_told_with_its_status(world):
    answer = await world.ask("POST", PURGE, b"", **JSON)
    assert (answer.status, told(answer)["error"]) == (400, "InvalidOption")
