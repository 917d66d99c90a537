"""WIRE.md says what the code does: its tables equal the code's, and its examples are packed and unpacked.

An example is a line that says who speaks and what (``C [1, PING]``) and, indented below it, the bytes in hex; ``let x = ...``
names a value for later examples. Expressions are literals, names of the protocol's tables and the few functions below;
they are walked, never run as code.
"""

from __future__ import annotations

import ast
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from mmh3 import mmh3_x64_128_utupledigest

import kvcache_client.protocol as protocol
from kvcache.cluster.control import CHANGES
from kvcache_client.placement.partitions import PARTITIONS, partition_of
from kvcache_client.protocol import limits
from kvcache_client.protocol import record as records
from kvcache_client.protocol.auth import Claim, Secret, Secrets
from kvcache_client.protocol.codec import decode_record, encode_value
from kvcache_client.protocol.errors import ERRORS
from kvcache_client.protocol.extensions import Extension
from kvcache_client.protocol.framing import CLIENT_FRAME_LIMIT, FrameReader, pack_message
from kvcache_client.protocol.verbs import ABSENT, PRESENT, VERBS, Push, Reason, Role, Status, Verb
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, HybridClock, version_ms

PAGE = Path(protocol.__file__).with_name("WIRE.md").read_text(encoding="utf-8")

_ENUMS: tuple[type[IntEnum], ...] = (Verb, Status, Role, Push, Reason, records.PayloadType)
_LINE = re.compile(r"(?P<who>[CN]) (?P<what>\[.*\])|let (?P<name>\w+) = (?P<value>.+)|  (?P<hex>[0-9a-f ]+)")


def version(ms: int, logical: int, writer: int) -> int:
    return ms << 21 | logical << 12 | writer


def record(version: int, expiry: int, flags: int, payload: bytes) -> bytes:
    return version.to_bytes(8, "big") + expiry.to_bytes(6, "big") + flags.to_bytes(1, "big") + payload


def proof(end: bytes, secret: bytes, cluster: str, role: int, ours: bytes, theirs: bytes) -> bytes:
    parts = (end, cluster.encode(), str(role).encode(), ours, theirs)
    return hmac.new(secret, b"".join(len(part).to_bytes(4, "big") + part for part in parts), hashlib.sha256).digest()


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "version": version,
    "record": record,
    "tombstone": lambda version, forgotten: record(version, forgotten, 0x80, b""),
    "header": lambda whole: whole[:15],
    "at": lambda moment, zone: moment.replace(tzinfo=zone),
    "folded": lambda moment: moment.replace(fold=1),
    **{kind.__name__: kind for kind in (date, datetime, time, timedelta, timezone, ZoneInfo, Decimal, UUID)},
    **{kind.__name__: kind for kind in (tuple, set, frozenset)},
    "nonce": bytes.fromhex,
    "client_proof": lambda secret, *claim: proof(b"kvcache 1 client", secret, *claim),
    "node_proof": lambda secret, *claim: proof(b"kvcache 1 node", secret, *claim),
}
NAMES: Mapping[str, int] = {
    **{member.name: int(member) for enum in _ENUMS for member in enum},
    **{error.__name__: code for code, error in ERRORS.items()},
    "ABSENT": ABSENT,
    "PRESENT": PRESENT,
    "NEVER": records.NEVER,
}


@dataclass(frozen=True, slots=True)
class Example:
    """One message of the page: who sends it, its fields, its bytes."""

    sender: str
    text: str
    fields: list[Any]
    packed: bytes = b""

    def __str__(self) -> str:
        return f"{self.sender} {self.text:.40}"


def fences(kind: str) -> str:
    return "".join(re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head; each cell without backticks."""
    _, found, rest = PAGE.partition(f"\n### {heading}\n")
    if not found:
        raise LookupError(f"WIRE.md has no heading {heading!r}")
    rows: list[list[str]] = []
    for line in rest.splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append([cell.strip().replace("\\|", "|").strip("`") for cell in cells])
        elif rows:
            break
    return rows[2:]


def value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List():
            return [value(item, known) for item in node.elts]
        case ast.Dict(keys=keys, values=values):
            return {value(key, known): value(item, known) for key, item in zip(keys, values, strict=True) if key}
        case ast.UnaryOp(op=ast.USub()):
            return -value(node.operand, known)
        case ast.Name():
            return known[node.id] if node.id in known else NAMES[node.id]
        case ast.Call(func=ast.Name()):
            return FUNCTIONS[node.func.id](*(value(item, known) for item in node.args))
    raise ValueError(f"an example may not hold {ast.unparse(node)!r}")


def read_examples() -> list[Example]:
    known: dict[str, Any] = {}
    found: list[Example] = []
    for line in fences("wire").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            if line.strip():
                raise ValueError(f"a line of an example that has none of the three forms: {line!r}")
        elif match["who"]:
            fields = value(ast.parse(match["what"], mode="eval").body, known)
            found.append(Example(match["who"], match["what"], fields))
        elif match["name"]:
            known[match["name"]] = value(ast.parse(match["value"], mode="eval").body, known)
        else:
            found[-1] = replace(found[-1], packed=found[-1].packed + bytes.fromhex(match["hex"]))
    return found


EXAMPLES = read_examples()
REQUESTS = {example.fields[0]: example.fields for example in EXAMPLES if example.sender == "C"}
REPLIES = [example for example in EXAMPLES if example.sender == "N" and example.fields[0] != 0]


# Examples


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_example_packs_to_the_bytes_that_the_page_shows(example: Example) -> None:
    assert pack_message(*example.fields) == example.packed


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_example_is_read_back_whole_and_byte_by_byte(example: Example) -> None:
    whole, slow = FrameReader(CLIENT_FRAME_LIMIT), FrameReader(CLIENT_FRAME_LIMIT)
    assert whole.feed(example.packed) == [tuple(example.fields)]
    dripped = [message for byte in example.packed for message in slow.feed(bytes([byte]))]
    assert dripped == [tuple(example.fields)]
    assert whole.broken is None
    assert slow.broken is None


def read_values() -> dict[str, tuple[Any, bytes]]:
    """Expression -> its value, and the payload that the page shows."""
    found: dict[str, tuple[Any, bytes]] = {}
    for line in fences("values").splitlines():
        if line.startswith("  "):
            last = list(found)[-1]
            found[last] = (found[last][0], found[last][1] + bytes.fromhex(line))
        else:
            found[line] = (value(ast.parse(line, mode="eval").body, {}), b"")
    return found


VALUES = read_values()


@pytest.mark.parametrize("text", VALUES)
def test_every_value_of_the_page_is_stored_as_it_shows_and_read_back(text: str) -> None:
    item, payload = VALUES[text]
    assert encode_value(item) == (records.PayloadType.MSGPACK, payload)
    back = decode_record(record(1, records.NEVER, records.PayloadType.MSGPACK, payload))
    assert (type(back), back, str(back)) == (type(item), item, str(item))


def test_every_extension_type_has_an_example() -> None:
    assert {type(item).__name__.upper() for item, _ in VALUES.values()} >= {kind.name for kind in Extension}


def test_all_examples_make_one_stream() -> None:
    reader = FrameReader(CLIENT_FRAME_LIMIT)
    assert reader.feed(b"".join(example.packed for example in EXAMPLES)) == [
        tuple(example.fields) for example in EXAMPLES
    ]


def test_every_verb_status_and_push_has_an_example() -> None:
    assert {fields[1] for fields in REQUESTS.values()} >= set(Verb)
    assert {reply.fields[1] for reply in REPLIES} >= set(Status)
    assert {example.fields[1] for example in EXAMPLES if example.fields[0] == 0} == set(Push)


@pytest.mark.parametrize("number", REQUESTS)
def test_every_request_of_an_example_has_the_fields_of_its_verb(number: int) -> None:
    _, verb, *fields = REQUESTS[number]
    if verb not in VERBS:
        return  # the verb of the future
    named = VERBS[verb].fields
    if named and named[-1].endswith("..."):
        group = len(named[-1].strip("(.)").split())
        assert (len(fields) - len(named) + 1) % group == 0
    else:
        assert len(fields) == len(named)
        assert all(field is not None or name.endswith("?") for field, name in zip(fields, named, strict=True))


@pytest.mark.parametrize("reply", REPLIES, ids=str)
def test_every_reply_of_an_example_is_one_that_its_verb_has(reply: Example) -> None:
    number, status, *fields = reply.fields
    if status in ERRORS:
        assert isinstance(fields[0], str)
        assert len(fields) <= 2
        return
    forms = dict(form.partition(" ")[::2] for form in VERBS[REQUESTS[number][1]].replies)
    named = forms[Status(status).name]
    if named.endswith("..."):
        sent = VERBS[REQUESTS[number][1]].fields
        if sent and sent[-1].endswith("..."):  # as many answers as there were groups
            alone = len(sent) - 1
            group = len(sent[-1].strip("(.)").split())
            assert len(fields) == len(REQUESTS[number][2 + alone :]) // group
        else:
            alone = len(named.split("(")[0].split())
            assert (len(fields) - alone) % len(named.split("(")[1].strip(").").split()) == 0
    else:
        needed = [name for name in named.split() if not name.endswith("?")]
        assert len(needed) <= len(fields) <= len(named.split())


def test_the_first_frame_of_the_examples_passes_the_limit_before_hello() -> None:
    reader = FrameReader(CLIENT_FRAME_LIMIT, first_limit=limits.HELLO_BYTES)
    assert reader.feed(EXAMPLES[0].packed) == [tuple(EXAMPLES[0].fields)]
    assert EXAMPLES[0].fields[1] == Verb.HELLO


def test_the_proofs_of_the_page_are_those_that_the_code_makes_and_takes() -> None:
    asked, challenge, proved, greeted = (example.fields for example in EXAMPLES if example.fields[0] in (40, 41))
    secret = Secret(Role.ADMIN, b"correct horse battery staple")
    claim = Claim(asked[3], asked[4], asked[5], challenge[2])
    assert proved[2] == claim.client_proof(secret)
    assert greeted[-1] == claim.node_proof(secret)
    assert Secrets([secret]).proving(claim, proved[2]) is secret


# Tables


def test_the_verb_table_is_the_one_in_the_code() -> None:
    assert table("Verbs") == [
        [str(int(verb)), verb.name, " ".join(spec.fields), " / ".join(spec.replies), spec.meaning]
        for verb, spec in VERBS.items()
    ]


def test_the_table_of_roles_is_the_one_in_the_code() -> None:
    everybody = frozenset(Role)
    assert {verb: set(roles.split(", ")) for verb, roles in table("Who may ask")} == {
        verb.name: {role.name for role in spec.roles} for verb, spec in VERBS.items() if spec.roles != everybody
    }


def test_the_table_of_changes_is_the_one_that_nodes_know() -> None:
    _, _, rest = PAGE.partition("| change | arguments |")
    rows = [line.split("|")[1:3] for line in rest.splitlines()[2:] if line.startswith("|")][: len(CHANGES)]
    assert {name.strip(): re.findall(r"`(\w+)`", arguments) for name, arguments in rows} == {
        name: list(arguments) for name, (_, arguments) in CHANGES.items()
    }


def test_every_field_of_a_verb_or_reply_is_explained() -> None:
    texts = [text for spec in VERBS.values() for text in (*spec.fields, *spec.replies)]
    words = {word for text in texts for word in re.findall(r"[a-z]\w*", text)} - {"nil"}
    assert words == {row[0] for row in table("Field types")}


def test_the_status_role_and_payload_tables_are_the_ones_in_the_code() -> None:
    for heading, enum in (
        ("Statuses", Status),
        ("Roles", Role),
        ("Reasons of a miss", Reason),
        ("Payload types", records.PayloadType),
        ("Extension types", Extension),
    ):
        assert [row[:2] for row in table(heading)] == [[str(int(member)), member.name] for member in enum]


def test_the_error_table_is_the_one_in_the_code() -> None:
    words = {True: "yes", False: "no"}
    assert table("Errors") == [
        [
            str(code),
            error.__name__,
            str(error.http_status),
            words[error.retryable],
            words[error.closes_connection],
        ]
        for code, error in sorted(ERRORS.items())
    ]


def test_the_limit_table_is_the_one_in_the_code() -> None:
    assert {row[0]: int(row[1].replace(",", "")) for row in table("Limit table")} == {
        name: getattr(limits, name) for name in limits.__all__
    }


def test_errors_that_bad_bytes_get_close_the_connection_where_the_page_says_so() -> None:
    _, _, rest = PAGE.partition("\n## 9. Bad bytes\n")
    rows = re.findall(r"^\| (.*) \| `(\w+)` \| (closes|goes on) \|$", rest.partition("\n## ")[0], re.MULTILINE)
    errors = {error.__name__: error for error in ERRORS.values()}
    assert len(rows) > 10
    for what, name, end in rows:
        assert errors[name].closes_connection is (end == "closes"), what


# Numbers in the prose


def test_the_record_layout_of_the_page_is_the_one_in_the_code() -> None:
    mine = record(version(1_700_000_000_000, 3, 0xABC), 1_700_000_060_000, 2, b"text")
    stamp = version(1_700_000_000_000, 3, 0xABC)
    assert records.make_record(stamp, 1_700_000_060_000, 2, b"text") == mine
    assert records.tombstone(stamp, 5) == record(stamp, 5, 0x80, b"")
    assert [row[0] for row in table("Record bytes")] == ["0-7", "8-13", "14", "15-"]
    assert records.TOMBSTONE_MS == 30 * 60_000


def test_the_versions_of_the_page_are_what_a_clock_stamps() -> None:
    rows = re.findall(r"(\d+) ms, logical (\d+), writer (0x\w+) -> (0x\w+)", fences("versions"))
    assert len(rows) > 1
    for ms, logical, writer, packed in rows:
        assert version(int(ms), int(logical), int(writer, 16)) == int(packed, 16)
        assert version_ms(int(packed, 16)) == int(ms)
        clock = HybridClock(lambda ms=ms: int(ms), int(writer, 16))  # type: ignore[misc]  # bound now
        stamps = [clock.stamp() for _ in range(5)]
        assert int(ms) == 0 or int(packed, 16) == stamps[int(logical)]
    assert MAX_CLOCK_OFFSET_MS == 500


def test_the_keys_of_the_page_lie_in_the_partitions_that_it_says() -> None:
    rows = re.findall(r"(\w+) seed (\d+) -> (0x\w+) -> (\d+)", fences("keys"))
    assert len(rows) > 3
    for key, seed, digest, partition in rows:
        assert mmh3_x64_128_utupledigest(bytes.fromhex(key), int(seed))[0] == int(digest, 16)
        assert partition_of(bytes.fromhex(key), int(seed)) == int(partition) == int(digest, 16) >> 50
    assert PARTITIONS == 1 << 14
