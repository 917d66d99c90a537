"""Secrets, roles and proofs, without a connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache_client.protocol.auth import NO_SECRETS, Claim, Secret, Secrets, draw_nonce, parse_secrets
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.limits import NONCE_BYTES, SECRET_BYTES_MAX
from kvcache_client.protocol.verbs import Role

CLIENT = Secret(Role.CLIENT, b"c" * 32)
NODE = Secret(Role.NODE, b"n" * 32)
ADMIN = Secret(Role.ADMIN, b"a" * 32)
CLAIM = Claim("shop", Role.CLIENT, b"1" * 32, b"2" * 32)


def test_a_secret_is_good_for_its_role_and_the_lower_ones() -> None:
    allowed = {secret.role: [role for role in Role if secret.allows(role)] for secret in (CLIENT, NODE, ADMIN)}
    assert allowed == {
        Role.CLIENT: [Role.CLIENT],
        Role.NODE: [Role.CLIENT, Role.NODE],
        Role.ADMIN: [Role.CLIENT, Role.NODE, Role.ADMIN],
    }


def test_the_secret_shown_is_the_first_of_the_lowest_role_that_will_do() -> None:
    newer = Secret(Role.CLIENT, b"d" * 32)
    secrets = Secrets([ADMIN, newer, CLIENT])
    assert secrets.shown_as(Role.CLIENT) is newer
    assert secrets.shown_as(Role.NODE) is ADMIN
    assert Secrets([CLIENT]).shown_as(Role.ADMIN) is None
    assert NO_SECRETS.shown_as(Role.CLIENT) is None


def test_all_secrets_are_taken_while_they_are_exchanged() -> None:
    secrets = Secrets([ADMIN, NODE, CLIENT])
    assert [secrets.proving(CLAIM, CLAIM.client_proof(each)) for each in (CLIENT, NODE, ADMIN)] == [CLIENT, NODE, ADMIN]
    assert [secrets.role_of(each.key) for each in (CLIENT, NODE, ADMIN)] == [Role.CLIENT, Role.NODE, Role.ADMIN]
    assert secrets.role_of(b"x" * 32) is None


@pytest.mark.parametrize(
    "other",
    [
        Claim("shop2", Role.CLIENT, b"1" * 32, b"2" * 32),
        Claim("shop", Role.ADMIN, b"1" * 32, b"2" * 32),
        Claim("shop", Role.CLIENT, b"3" * 32, b"2" * 32),
        Claim("shop", Role.CLIENT, b"1" * 32, b"3" * 32),
        Claim("shop", Role.CLIENT, b"1" * 33, b"2" * 31),
    ],
)
def test_a_proof_is_good_for_what_was_said_and_nothing_else(other: Claim) -> None:
    assert Secrets([ADMIN]).proving(other, CLAIM.client_proof(ADMIN)) is None


def test_one_ends_proof_is_not_the_others() -> None:
    assert Secrets([ADMIN]).proving(CLAIM, CLAIM.node_proof(ADMIN)) is None


@given(st.binary(max_size=64))
def test_no_bytes_are_a_proof_by_chance(proof: bytes) -> None:
    assert Secrets([ADMIN, CLIENT]).proving(CLAIM, proof) is None


def test_nothing_shows_a_secret() -> None:
    for shown in (repr(ADMIN), str(ADMIN), repr(Secrets([ADMIN, CLIENT])), f"{Secrets([CLIENT])}"):
        assert "aaaa" not in shown
        assert "cccc" not in shown
    assert repr(Secrets([ADMIN, CLIENT])) == "<Secrets admin, client>"


def test_a_nonce_is_drawn_from_all_that_the_generator_gives() -> None:
    draws = iter([0.0, 1 - 2**-53, 0.5, *[0.25] * 5])
    assert draw_nonce(lambda: next(draws)).hex() == "00000000ffffffff80000000" + "40000000" * 5
    assert len(draw_nonce(lambda: 0.1)) == NONCE_BYTES


def test_secrets_are_read_a_line_each() -> None:
    text = f"# of the shop\n\nadmin {'a' * 32}\r\n  CLIENT\t{'c' * 32}\n{'b' * 32}\n"
    assert parse_secrets(text, "here") == Secrets([ADMIN, CLIENT, Secret(Role.ADMIN, b"b" * 32)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "here holds no secret"),
        ("# nothing\n", "here holds no secret"),
        ("short", "here, line 1: a secret of 5 bytes: must be 16 to 1024; openssl rand"),
        ("\nclient tiny-secret", "here, line 2: a secret of 11 bytes"),
        ("x" * (SECRET_BYTES_MAX + 1), "here, line 1: a secret of 1025 bytes"),
        ("root verysecretverysecret", "here, line 1: must be ROLE SECRET, with a role of client, node, admin"),
        ("admin verysecret verysecret", "here, line 1: must be ROLE SECRET"),
    ],
)
def test_a_bad_line_is_named_and_never_repeated(text: str, said: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse_secrets(text, "here")
    assert str(caught.value).startswith(said)
    assert "verysecret" not in str(caught.value)
    assert "tiny" not in str(caught.value)
