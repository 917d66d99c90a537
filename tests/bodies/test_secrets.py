"""Both clients against nodes that ask for a secret."""

from __future__ import annotations

from typing import Any

import pytest

from kvcache_client import ClientConfig
from kvcache_client.protocol.auth import parse_secrets
from kvcache_client.protocol.errors import Forbidden, InvalidOption, Unauthenticated
from kvcache_client.protocol.verbs import Role, Verb

ADMIN, NODE, CLIENT, OLD = "a" * 32, "n" * 32, "c" * 32, "o" * 32


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secrets"
    path.write_text(f"admin {ADMIN}\nnode {NODE}\nclient {CLIENT}\nclient {OLD}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def guarded(start_node, secret_file):
    return start_node(secret_file=str(secret_file))


@pytest.mark.parametrize("secret", [CLIENT, OLD, f"client {CLIENT}", ADMIN])
async def test_a_client_with_the_secret_is_let_in(open_client, guarded, secret):
    cache = open_client(guarded.address, secret=secret)
    await cache.set("a", 1)
    assert await cache.get("a") == 1


async def test_the_secret_comes_from_the_environment_or_a_file(open_client, guarded, monkeypatch, secret_file):
    monkeypatch.setenv("KVCACHE_SECRET", CLIENT)
    assert await open_client(guarded.address).get("a") is None
    monkeypatch.setenv("KVCACHE_SECRET", "wrong" * 8)
    monkeypatch.setenv("KVCACHE_SECRET_FILE", str(secret_file))  # goes first
    assert await open_client(guarded.address).get("a") is None


async def test_a_client_without_one_is_told_what_to_do(open_client, guarded):
    with pytest.raises(Unauthenticated, match=f"{guarded.address} asks for a secret|KVCACHE_SECRET"):
        await open_client(guarded.address).get("a")


async def test_a_wrong_secret_is_told_as_that(open_client, guarded):
    with pytest.raises(Unauthenticated, match="none of this node's"):
        await open_client(guarded.address, secret="w" * 32).get("a")


async def test_a_client_goes_to_no_node_that_does_not_know_its_secret(open_client, one_node):
    with pytest.raises(Unauthenticated, match="asks for no secret and shows none"):
        await open_client(one_node.seeds, secret=CLIENT).get("a")


async def test_an_impostor_that_lets_everybody_in_is_found_out(open_client, scripted):
    from kvcache_client.protocol.framing import pack_message
    from kvcache_client.protocol.verbs import Status

    def lets_in(node: Any, message: Any) -> bytes:
        if message[1] == Verb.HELLO:
            return pack_message(message[0], int(Status.CHALLENGE), b"2" * 32)
        return pack_message(message[0], 0, 1, "scripted", "scripted", 1, 1000, 1 << 20, b"p" * 32)

    scripted.answer = lets_in
    with pytest.raises(Unauthenticated, match="does not know the secret itself"):
        await open_client(scripted.address, secret=CLIENT).get("a")


async def test_roles_are_held_apart(make, guarded):
    from client_faces import Face

    asks = {}
    for role, secret in ((Role.ADMIN, ADMIN), (Role.CLIENT, CLIENT)):
        config = ClientConfig(5.0, 5.0, role=role, secrets=parse_secrets(f"{role.name} {secret}", "test"))
        face = Face(make(guarded.address, config=config))
        await face.get("a")
        asks[role] = face
    with pytest.raises(Unauthenticated, match="holds no secret that is good for the role admin"):
        config = ClientConfig(5.0, 5.0, role=Role.ADMIN, secrets=parse_secrets(f"client {CLIENT}", "test"))
        await Face(make(guarded.address, config=config)).get("a")

    def change():
        reply = yield guarded.id, [0, Verb.CHANGE, 1, b"{}"]
        return reply

    assert (await asks[Role.CLIENT].run(change()))[1] == Forbidden.code
    assert (await asks[Role.ADMIN].run(change()))[1] != Forbidden.code
    for face in asks.values():
        await face.close()


@pytest.mark.parametrize("secret", ["short", "", "\n#\n"])
def test_a_secret_that_is_none_is_refused_at_once(make, secret):
    with pytest.raises(InvalidOption, match="secret"):
        make("127.0.0.1:1", secret=secret)


async def test_nodes_speak_to_each_other_by_theirs(open_client, start_node, secret_file, coordinator):
    options = {
        "cluster": "guarded",
        "coordinator": coordinator,
        "replication_factor": 2,
        "secret_file": str(secret_file),
    }
    nodes = [start_node(id=f"guarded-{number}", **options) for number in (1, 2)]
    cache = open_client([node.address for node in nodes], secret=CLIENT)
    for number in range(20):
        await cache.set(f"k{number}", number)
    assert dict(await cache.get_many([f"k{number}" for number in range(20)])) == {f"k{n}": n for n in range(20)}
