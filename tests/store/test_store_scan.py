"""Reading a partition through, piece by piece, in the order of its keys."""

from __future__ import annotations

from kvcache.store import Store
from kvcache_client.protocol.record import HEADER_BYTES, NEVER, TOMBSTONE_MS, is_tombstone, make_record, tombstone

NOW = 1_800_000_000_000
PLENTY = 1 << 30


def value(version: int, size: int = 10, expiry_ms: int = NEVER) -> bytes:
    return make_record(version, expiry_ms, 1, b"x" * size)


def read_through(store: Store, limit_bytes: int, *, with_payload: bool = True) -> list[list[tuple[bytes, bytes]]]:
    """Every piece of partition 0."""
    pieces: list[list[tuple[bytes, bytes]]] = []
    more = True
    while more:
        rows, more = store.scan(0, pieces[-1][-1][0] if pieces else b"", limit_bytes, with_payload)
        pieces.append(rows)
    return pieces


def test_an_empty_partition_has_nothing_and_no_more(store: Store) -> None:
    assert store.scan(0, b"", PLENTY, True) == ([], False)


def test_records_come_in_the_byte_order_of_their_keys_from_whatever_queue(store: Store) -> None:
    for key in (b"b", b"a\xff", b"a", b"\x00", b"\xff", b"B"):
        store.put(0, key, value(1))
    store.put(0, b"aa", tombstone(1, NOW + TOMBSTONE_MS))
    rows, more = store.scan(0, b"", PLENTY, True)
    assert [key for key, _ in rows] == [b"\x00", b"B", b"a", b"aa", b"a\xff", b"b", b"\xff"]
    assert not more


def test_a_scan_goes_on_after_the_key_that_it_is_told(store: Store) -> None:
    for key in (b"a", b"b", b"c"):
        store.put(0, key, value(1))
    assert [key for key, _ in store.scan(0, b"a", PLENTY, True)[0]] == [b"b", b"c"]
    assert [key for key, _ in store.scan(0, b"bb", PLENTY, True)[0]] == [b"c"]
    assert store.scan(0, b"c", PLENTY, True) == ([], False)


def test_other_partitions_are_not_read(store: Store) -> None:
    store.put(1, b"elsewhere", value(1))
    assert store.scan(0, b"", PLENTY, True) == ([], False)


def test_each_piece_ends_with_the_record_that_reaches_the_limit(store: Store) -> None:
    for number in range(10):
        store.put(0, b"%d" % number, value(1, 84))  # 100 bytes with key and header
    assert [len(piece) for piece in read_through(store, 300)] == [3, 3, 3, 1]
    assert [len(piece) for piece in read_through(store, 301)] == [4, 4, 2]
    assert [len(piece) for piece in read_through(store, 1_000)] == [10]


def test_a_piece_has_at_least_one_record_however_large(store: Store) -> None:
    for number in range(3):
        store.put(0, b"%d" % number, value(1, 50_000))
    assert [len(piece) for piece in read_through(store, 0)] == [1, 1, 1]


def test_without_payload_there_are_headers_alone_and_more_of_them_in_a_piece(store: Store) -> None:
    for number in range(10):
        store.put(0, b"%d" % number, value(number + 1, 5_000))
    (piece,) = read_through(store, 1_000, with_payload=False)
    assert piece == [(b"%d" % number, value(number + 1)[:HEADER_BYTES]) for number in range(10)]


def test_tombstones_are_read_and_expired_records_are_as_tombstones(store: Store) -> None:
    store.put(0, b"deleted", tombstone(7, NOW + TOMBSTONE_MS))
    store.put(0, b"expired", value(8, expiry_ms=NOW + 100))
    store.advance(NOW + 100)
    rows, _ = store.scan(0, b"", PLENTY, True)
    assert rows == [
        (b"deleted", tombstone(7, NOW + TOMBSTONE_MS)),
        (b"expired", tombstone(8, NOW + 100 + TOMBSTONE_MS)),
    ]
    assert all(is_tombstone(record) for _, record in rows)


def test_nothing_that_is_over_is_promised_as_more(store: Store) -> None:
    store.put(0, b"a", value(1))
    store.put(0, b"b", tombstone(1, NOW + 1))
    store.advance(NOW + 1)
    assert store.scan(0, b"", 1, True) == ([(b"a", value(1))], False)


def test_a_key_that_stays_is_met_once_whatever_comes_and_goes_around_it(store: Store) -> None:
    for number in range(100):
        store.put(0, b"stays %03d" % number, value(1))
    found: list[bytes] = []
    more = True
    turn = 0
    while more:
        rows, more = store.scan(0, found[-1] if found else b"", 200, True)
        found += [key for key, _ in rows]
        turn += 1
        store.put(0, b"%d comes" % turn, value(1))
        store.put(0, b"stays %03d" % turn, value(2))
        store.put(0, b"z%d" % turn, value(1))
        store.put(0, b"z%d" % (turn - 1), tombstone(2, NOW + TOMBSTONE_MS))
    kept = [key for key in found if key.startswith(b"stays")]
    assert kept == [b"stays %03d" % number for number in range(100)]


def test_a_scan_counts_no_use(store: Store) -> None:
    store.put(0, b"key", value(1))
    store.scan(0, b"", PLENTY, True)
    assert (store.statistics().hits, store.statistics().misses, store.tables[0].small.uses_of(b"key")) == (0, 0, 0)
