from __future__ import annotations

import random

import pytest

from kvcache.store.ghost import Ghost
from kvcache.store.sizes import Ledger


def keys(count: int, name: bytes = b"key") -> list[bytes]:
    return [b"%b %d" % (name, number) for number in range(count)]


def filled(slots: int, remembered: list[bytes]) -> Ghost:
    ghost = Ghost(slots, Ledger())
    for key in remembered:
        ghost.add(key)
    return ghost


def found(ghost: Ghost, wanted: list[bytes], capacity: int) -> float:
    return sum(ghost.remove(key, capacity) for key in wanted) / len(wanted)


def test_a_key_is_remembered_once() -> None:
    ghost = filled(256, [b"key"])
    assert ghost.remove(b"key", 256)
    assert not ghost.remove(b"key", 256)


@pytest.mark.parametrize("slots", [1000, 1024, 8192, 65536, 99_996])
def test_most_keys_within_the_capacity_are_remembered(slots: int) -> None:
    wanted = keys(slots // 2)
    assert found(filled(slots, wanted), wanted, slots // 2) > 0.9


@pytest.mark.parametrize("slots", [1024, 65536, 99_996])
def test_a_key_is_forgotten_when_more_than_the_capacity_came_after_it(slots: int) -> None:
    old, new = keys(slots // 8, b"old"), keys(slots // 2, b"new")
    ghost = filled(slots, old + new)
    # An old key may look like a new one, one in 16000 does; hashes differ from process to process.
    assert found(ghost, old, slots // 4) * len(old) <= 8
    assert found(ghost, new[-slots // 8 :], slots // 4) > 0.9


def test_strangers_are_hardly_ever_mistaken_for_a_remembered_key() -> None:
    ghost = filled(4096, keys(4096))
    assert found(ghost, keys(20_000, b"stranger"), 4096) < 0.001


def test_a_full_bucket_loses_its_oldest_key() -> None:
    ghost = filled(4, keys(5))  # a single bucket
    assert [ghost.remove(key, 4) for key in keys(5)] == [False, True, True, True, True]


def test_memory_stays_what_it_was_however_many_keys_come() -> None:
    ledger = Ledger()
    ghost = Ghost(1024, ledger)
    for key in keys(100_000):
        ghost.add(key)
    assert ledger.used == ghost.cost() == 4096


def test_old_keys_do_not_come_back_when_the_stamps_run_over() -> None:
    ghost = Ghost(64, Ledger())
    order = random.Random(1)
    for _ in range(3):
        for key in keys(70_000, b"%d" % order.getrandbits(32)):
            ghost.add(key)
        assert found(ghost, keys(10_000, b"stranger"), 64) < 0.005


def test_a_noted_key_is_known_but_takes_no_place_and_is_not_found_by_the_policy() -> None:
    ghost = filled(1024, keys(400))
    noted = list(keys(300, b"noted"))
    for key in noted:
        ghost.note(key, 1024)
    assert sum(map(ghost.holds, noted)) > 100
    assert not any(ghost.remove(key, 1024) for key in noted)
    assert not any(map(ghost.holds, noted))
    assert found(ghost, keys(400), 1024) > 0.8


def test_a_note_takes_no_slot_from_a_key_within_the_capacity() -> None:
    ghost = filled(256, keys(2000))
    recent = keys(2000)[-200:]
    before = [ghost.holds(key) for key in recent]
    noted = keys(300, b"noted")
    for key in noted:
        ghost.note(key, 200)
    assert [ghost.holds(key) for key in recent] == before
    assert any(map(ghost.holds, noted))  # only what the policy had already given up made way


def test_the_ghost_shows_its_state() -> None:
    assert repr(filled(64, keys(3))) == "<Ghost slots=64 added=3>"
