"""What guessing costs an address, and whose guesses count together."""

import pytest

from kvcache.transport.guard import Guard, Guesses, network_of
from kvcache_client.protocol.auth import Claim, Secret, Secrets
from kvcache_client.protocol.errors import Unauthenticated
from kvcache_client.protocol.verbs import Role

CLAIM = Claim("shop", Role.CLIENT, b"1" * 32, b"2" * 32)


class Watch:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch():
    return Watch()


def test_guesses_run_out_and_grow_again(watch):
    guesses = Guesses(watch, rate=2.0, burst=3.0)
    for _ in range(3):
        assert guesses.are_left("a")
        guesses.spend("a")
    assert not guesses.are_left("a")
    assert guesses.are_left("b")
    watch.now += 0.5
    assert guesses.are_left("a")
    guesses.spend("a")
    assert not guesses.are_left("a")
    watch.now += 100
    for _ in range(3):
        guesses.spend("a")
    assert not guesses.are_left("a")


def test_the_memory_of_addresses_is_bounded_and_forgets_the_innocent_first(watch):
    guesses = Guesses(watch, rate=1.0, burst=2.0)
    guesses.spend("old")
    watch.now += 10
    for number in range(20_000):
        guesses.spend(str(number))
        assert len(guesses._spent) <= 4096
    assert "old" not in guesses._spent
    assert {str(number) for number in range(17_000, 20_000)} <= guesses._spent.keys()


def test_wrong_proofs_are_logged_once_a_second_without_what_was_sent(watch, caplog):
    guard = Guard(Secrets([Secret(Role.ADMIN, b"a" * 32)]), Guesses(watch, 1.0, 1e6), watch)
    for _ in range(1000):
        with pytest.raises(Unauthenticated):
            guard.admit(CLAIM, b"not-the-proof", "10.0.0.1")
    assert caplog.messages == ["refused a wrong secret from 10.0.0.1; 1 so far"]
    watch.now += 1
    guard.role_of(b"not-the-token", "10.0.0.1")
    assert caplog.messages[1:] == ["refused a wrong token from 10.0.0.1; 1001 so far"]
    assert "not-the" not in caplog.text


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("2001:db8::1:2:3:4", 5, 0, 0), "2001:db8::/64"),
        (("2001:db8::9", 6, 0, 0), "2001:db8::/64"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        ("", "?"),
        (None, "?"),
    ],
)
def test_whose_guesses_count_together(peer, network):
    assert network_of(peer) == network
