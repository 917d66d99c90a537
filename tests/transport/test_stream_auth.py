"""The handshake by challenge and response, as a node sees it."""

import pytest
from polling import until

from kvcache.transport.limits import StreamLimits
from kvcache_client.protocol.auth import Claim, Secret, Secrets
from kvcache_client.protocol.errors import Forbidden, FrameTooLarge, HelloRequired, MalformedFrame, Unauthenticated
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.limits import HELLO_BYTES
from kvcache_client.protocol.verbs import Role, Status, Verb

CLIENT = Secret(Role.CLIENT, b"c" * 32)
ADMIN = Secret(Role.ADMIN, b"a" * 32)
OURS = b"1" * 32
PING = pack_message(7, int(Verb.PING))


@pytest.fixture
def asked(stranger):
    """A connection to a node that asks for a secret."""
    return type(stranger)(stranger.service, StreamLimits(refusal_seconds=0.001), Secrets([ADMIN, CLIENT]))


def hello(role=Role.CLIENT, nonce=OURS, cluster="test"):
    return pack_message(1, int(Verb.HELLO), 1, cluster, int(role), nonce, "tests")


def challenged(stream, role=Role.CLIENT):
    stream.feed(hello(role))
    ((number, status, nonce),) = stream.replies()
    assert (number, status) == (1, Status.CHALLENGE)
    return Claim("test", role, OURS, nonce)


def auth(proof):
    return pack_message(2, int(Verb.AUTH), proof)


async def refused(stream, error, number=2):
    await until(lambda: stream.transport.ended)
    return stream.refused(error, number=number)


def test_whoever_knows_the_secret_is_let_in_and_shown_that_the_node_does_too(asked):
    claim = challenged(asked)
    asked.feed(auth(claim.client_proof(CLIENT)))
    (reply,) = asked.replies()
    assert reply[:5] == (2, Status.OK, 1, "test", "n1")
    assert reply[8] == claim.node_proof(CLIENT)
    assert asked.ask(int(Verb.PING))[0] == Status.OK


@pytest.mark.parametrize(
    ("secret", "role", "status"),
    [(CLIENT, Role.CLIENT, Forbidden.code), (ADMIN, Role.CLIENT, Forbidden.code), (ADMIN, Role.ADMIN, Status.OK)],
)
def test_a_connection_may_ask_what_its_role_may(asked, secret, role, status):
    claim = challenged(asked, role)
    asked.feed(auth(claim.client_proof(secret)))
    asked.replies()
    assert asked.ask(int(Verb.REPORT))[0] == status


@pytest.mark.parametrize("role", [Role.NODE, Role.ADMIN])
async def test_a_clients_secret_claims_nothing_more(asked, role):
    claim = challenged(asked, role)
    asked.feed(auth(claim.client_proof(CLIENT)))
    assert "for the role client" in await refused(asked, Unauthenticated)
    assert asked.guard.refused == 1


@pytest.mark.parametrize("proof", [b"", b"x" * 32, "text", None, 5])
async def test_a_wrong_proof_is_refused_late_and_counted(asked, proof):
    challenged(asked)
    asked.feed(auth(proof))
    assert asked.replies() == []  # not at once
    await refused(asked, Unauthenticated)
    assert asked.guard.refused == 1


async def test_a_recorded_proof_is_worth_nothing_on_another_connection(asked):
    proof = challenged(asked).client_proof(CLIENT)
    other = type(asked)(asked.service, asked.limits, asked.guard.secrets)
    challenged(other)
    other.feed(auth(proof))
    await refused(other, Unauthenticated)


async def test_the_nodes_own_proof_does_not_open_it(asked):
    claim = challenged(asked)
    asked.feed(auth(claim.node_proof(CLIENT)))
    await refused(asked, Unauthenticated)


@pytest.mark.parametrize("behind", [PING, hello(), auth(b"x" * 32)])
async def test_nothing_is_answered_while_a_refusal_is_held_back(asked, behind):
    challenged(asked)
    asked.feed(auth(b"wrong"))
    asked.feed(behind)
    assert asked.transport.ended == "closed"
    assert [reply[1] for reply in asked.replies()] == [HelloRequired.code]


@pytest.mark.parametrize("instead", [PING, hello()])
def test_only_auth_may_follow_a_challenge(asked, instead):
    challenged(asked)
    asked.feed(instead)
    assert asked.transport.ended == "closed"
    assert [reply[1] for reply in asked.replies()] == [HelloRequired.code]


def test_auth_before_hello_is_no_way_in(asked):
    asked.feed(auth(b"x" * 32))
    asked.refused(HelloRequired, number=2)


def test_hello_without_a_nonce_is_told_that_a_secret_is_asked_for(asked):
    asked.feed(hello(nonce=b""))
    assert "KVCACHE_SECRET" in asked.refused(Unauthenticated, number=1)


@pytest.mark.parametrize("size", [1, 31, 65])
def test_a_nonce_of_another_size_is_refused(asked, size):
    asked.feed(hello(nonce=b"1" * size))
    asked.refused(MalformedFrame, number=1)


def test_the_bounds_of_strangers_hold_until_the_proof(asked):
    challenged(asked)
    asked.feed(auth(b"x" * HELLO_BYTES))
    asked.refused(FrameTooLarge)


def test_five_seconds_are_for_the_whole_handshake(asked):
    challenged(asked)
    asked.now += 5.1
    assert asked.connection.overdue(asked.now) == "no HELLO within 5 s"


def test_a_connection_that_is_in_has_no_challenge_to_answer(stream):
    stream.feed(auth(b"x" * 32))
    stream.refused(HelloRequired, number=2)


def test_the_role_holds_for_the_life_of_a_connection(asked):
    claim = challenged(asked)
    asked.feed(auth(claim.client_proof(CLIENT)))
    asked.replies()
    asked.feed(hello(Role.ADMIN))  # answered, as a second HELLO is, and changes nothing
    asked.replies()
    assert asked.ask(int(Verb.CHANGE), 1, b"{}")[0] == Forbidden.code
