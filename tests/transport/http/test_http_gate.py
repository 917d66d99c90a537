"""Bearer tokens and roles over HTTP, and pages of other sites."""

import json

import pytest

from kvcache_client.protocol.auth import parse_secrets
from kvcache_client.protocol.verbs import Role

ADMIN, CLIENT, OLD = "a" * 32, "c" * 32, "o" * 32
JSON = {"Content-Type": "application/json"}
PURGE = "/v1/admin/purge"
WISH = json.dumps({"prefix": "shop:"}).encode()


@pytest.fixture
async def guarded(make_world):
    secrets = parse_secrets(f"admin {ADMIN}\nclient {CLIENT}\nclient {OLD}", "the test")
    return await make_world(secrets, refusal_seconds=0.001)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", ["/v1/kv/a", "/v1/topology", "/v1/stats", "/metrics", "/v1/admin/status"])
async def test_data_figures_and_operations_ask_for_a_token(guarded, path):
    answer = await guarded.ask("GET", path)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="kvcache"')
    assert json.loads(answer.body)["error"] == "Unauthenticated"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_whoever_watches_the_process_needs_none(guarded, path):
    assert (await guarded.ask("GET", path)).status == 200


@pytest.mark.parametrize("token", [CLIENT, OLD, ADMIN])
async def test_every_secret_is_a_token_for_what_clients_do(guarded, token):
    assert (await guarded.ask("PUT", "/v1/kv/a", b"x", **bearer(token))).status == 204
    assert (await guarded.ask("GET", "/v1/kv/a", **bearer(token))).body == b"x"
    assert (await guarded.ask("GET", "/metrics", **bearer(token))).status == 200
    assert (await guarded.ask("GET", "/v1/admin/status", **bearer(token))).status == 200


async def test_only_an_admins_token_changes_the_cluster(guarded):
    answer = await guarded.ask("POST", PURGE, WISH, **JSON, **bearer(CLIENT))
    assert (answer.status, json.loads(answer.body)["error"]) == (403, "Forbidden")
    assert guarded.node.operations.asked == []
    assert (await guarded.ask("POST", PURGE, WISH, **JSON, **bearer(ADMIN))).status == 200


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "Basic " + CLIENT, CLIENT, f"Bearer {CLIENT[:-1]}", "Bearer \xff"]
)
async def test_what_is_no_token_is_refused(guarded, value):
    assert (await guarded.ask("GET", "/v1/kv/a", Authorization=value)).status == 401


async def test_wrong_tokens_count_as_guesses_and_are_never_told_or_logged(guarded, caplog):
    answer = await guarded.ask("GET", "/v1/kv/a", **bearer("wrong-but-of-some-length"))
    assert (answer.status, guarded.guard.refused) == (401, 1)
    assert b"wrong-but" not in answer.body
    assert "wrong-but" not in caplog.text
    assert guarded.guard.guesses.are_left("127.0.0.1")


async def test_no_answer_lets_another_site_read_it(guarded):
    for headers in ({}, bearer(ADMIN)):
        answer = await guarded.ask("GET", "/v1/kv/a", Origin="http://evil.example", **headers)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert (await guarded.ask("OPTIONS", PURGE, Origin="http://evil.example", **bearer(ADMIN))).status == 405


async def test_another_site_is_refused_whatever_it_knows(guarded):
    answer = await guarded.ask("POST", PURGE, WISH, Origin="http://evil.example", **JSON, **bearer(ADMIN))
    assert answer.status == 403
    assert guarded.node.operations.asked == []


async def test_a_name_that_points_here_is_no_proof_of_origin_without_secrets(world):
    answer = await world.ask("POST", PURGE, WISH, Origin="http://test", **JSON)  # as after a rebinding of the name
    assert answer.status == 403
    assert world.node.operations.asked == []


async def test_a_browser_that_says_cross_site_is_refused_even_without_origin(world):
    answer = await world.ask("POST", PURGE, WISH, Sec_Fetch_Site="cross-site", **JSON)
    assert answer.status == 403
    assert world.node.operations.asked == []


async def test_secrets_can_be_exchanged_while_the_node_runs(guarded):
    guarded.guard.secrets = parse_secrets("n" * 32, "the test")
    assert guarded.guard.secrets.role_of(b"n" * 32) == Role.ADMIN
    assert (await guarded.ask("GET", "/metrics", **bearer(CLIENT))).status == 401
    assert (await guarded.ask("GET", "/metrics", **bearer("n" * 32))).status == 200
