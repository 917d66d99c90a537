from __future__ import annotations

import random

import pytest

from kvcache.store.sizes import Ledger
from kvcache.store.uses import MAX_USES, UseCounts

TAG_SHIFT = 40


@pytest.fixture
def uses() -> UseCounts:
    return UseCounts(Ledger())


def digest(place: int, tag: int) -> int:
    """Return a hash that leads to this place with this tag."""
    return tag << TAG_SHIFT | place


def hit(uses: UseCounts, hashed: int, times: int = 1) -> None:
    for _ in range(times):
        uses.count(hashed)


def test_hits_are_counted_up_to_the_maximum(uses: UseCounts) -> None:
    counted = []
    for _ in range(5):
        uses.hit(b"key")
        counted.append(uses.of(b"key"))
    assert counted == [1, 2, MAX_USES, MAX_USES, MAX_USES]


def test_taking_returns_the_uses_and_forgets_them(uses: UseCounts) -> None:
    uses.hit(b"key")
    uses.hit(b"key")
    assert uses.take(b"key") == 2
    assert uses.of(b"key") == 0
    assert uses.take(b"key") == 0


@pytest.mark.parametrize("given", [0, 1, MAX_USES])
def test_uses_that_were_taken_can_be_given_back(uses: UseCounts, given: int) -> None:
    uses.give(b"key", given)
    assert uses.of(b"key") == given
    uses.give(b"key", MAX_USES)
    assert uses.take(b"key") == MAX_USES


def test_two_keys_of_one_place_are_counted_apart(uses: UseCounts) -> None:
    one, other = digest(8, 4), digest(8, 8)
    hit(uses, one, 3)
    hit(uses, other, 1)
    assert (uses[one], uses[other]) == (3, 1)


def test_a_stranger_at_the_same_place_is_not_taken_for_a_used_key(uses: UseCounts) -> None:
    hit(uses, digest(8, 4), 3)
    assert uses[digest(8, 12)] == 0


def test_a_third_key_wears_down_the_first_and_then_has_its_place(uses: UseCounts) -> None:
    one, other, third = digest(8, 4), digest(8, 8), digest(8, 12)
    hit(uses, one, 2)
    hit(uses, other, 3)
    hit(uses, third, 2)
    assert (uses[one], uses[other], uses[third]) == (0, 3, 0)
    hit(uses, third)
    assert (uses[other], uses[third]) == (3, 1)


def test_counters_survive_doubling() -> None:
    ledger = Ledger()
    uses = UseCounts(ledger)
    keys = [b"%d" % number for number in range(uses.room // 4)]
    for key in keys:
        uses.hit(key)
    counted = [uses.of(key) for key in keys]
    room = uses.room
    uses.double()
    assert uses.room == 2 * room
    assert [uses.of(key) for key in keys] == counted
    assert ledger.used == uses.cost()


def test_most_keys_keep_their_count_when_every_record_was_used(uses: UseCounts) -> None:
    keys = [b"%d" % number for number in range(uses.room)]
    rounds = [key for key in keys for _ in range(2)]
    random.Random(3).shuffle(rounds)
    for key in rounds:
        uses.hit(key)
    assert sum(uses.of(key) == 2 for key in keys) >= 0.75 * len(keys)
    assert sum(uses.of(b"stranger %d" % number) > 0 for number in range(10_000)) <= 20


def test_use_counts_show_their_size(uses: UseCounts) -> None:
    assert repr(uses) == "<UseCounts slots=2048 room=1024>"
