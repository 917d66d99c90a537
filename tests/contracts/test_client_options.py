"""Options that can't be meant: both clients refuse them by name when they are made, not at the first call."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kvcache_client import ClientConfig, InvalidOption
from kvcache_client.core.retry import Backoff
from kvcache_client.core.tls import Tls
from kvcache_client.protocol.auth import parse_secrets
from kvcache_client.protocol.verbs import Role

NOWHERE = "127.0.0.1:1"
HUGE = 10**5000


class Silent:
    """Shows nothing of itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


NO_NUMBERS = ["1", True, None, [], b"1", 1j, Decimal(1), Silent(), HUGE, -HUGE]
NO_FLAGS = ["no", "", 0, 1, None, [], Silent()]
NO_TEXTS = [5, None, True, b"x", ["x"], Silent(), HUGE]

WRONG: list[tuple[str, list[Any]]] = [
    *((option, NO_NUMBERS) for option in ("timeout", "connect_timeout", "lease", "busy_polling", "value_limit")),
    *((option, NO_FLAGS) for option in ("fail_open", "hedging", "trace_keys")),
    *((option, NO_TEXTS) for option in ("cluster", "zone", "name")),
    ("value_limit", [1.0, 1e6, float("nan")]),
    ("cluster", ["x" * 65, "x" * 5000, "a b", "a/b", "é", "\ud800", "main?timeout=1"]),
    ("zone", ["x" * 65, "a b", "\n"]),
    ("name", ["x" * 257, "é" * 129, "x" * 5000, "\ud800", "a\nb"]),
    ("role", [9, 1, 0, "ADMIN", None, True, HUGE]),
    ("secrets", ["hunter2hunter2hunter2", b"hunter2", 5, None, ()]),
    ("tls", [5, True, "ca.pem", b"x", {"ca": "x"}, Tls, Silent()]),
    ("serializers", [5, None, "json", b"x", {}, {1}, iter(()), Silent()]),
    ("backoff", [5, None, 0.1, (0.1, 2.0), Backoff]),
    *((option, [5, None, Silent(), "gzip", HUGE, True]) for option in ("consistency", "balancing", "serializer")),
    ("acks", ["5", 1.0, True, None, [], "some", -1, 0]),
    ("compression", [5, "gzip", [], {}, True]),
    ("expanded_limit", ["1", True, 1.0, None][:3]),
]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        pytest.param(option, value, id=f"{option} {type(value).__name__} {number}")
        for option, values in WRONG
        for number, value in enumerate(values)
    ],
)
def test_an_option_of_a_wrong_type_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=option) as caught:
        ClientConfig(**{option: value})
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("timeout", value) for value in ("1", True, [], HUGE, Silent())),
        *(("connect_timeout", value) for value in ("x", False, HUGE)),
        *(("fail_open", value) for value in ("no", 1, Silent())),
        *(("cluster", value) for value in (5, "x" * 5000, ["main"])),
        *(("config", value) for value in ({}, 5, "x", ClientConfig, Silent())),
        *(
            ("secret", value)
            for value in (5, b"hunter2hunter2hunter2", True, ["hunter2"], "hunter2\ud800hunter2hunter2")
        ),
    ],
    ids=lambda value: (
        type(value).__name__ if not isinstance(value, str) else value[:20].encode(errors="replace").decode()
    ),
)
def test_a_client_refuses_an_argument_of_a_wrong_type(make: type[Any], option: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=option) as caught:
        make(NOWHERE, **{option: value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", [5, None, b"nightly", ["nightly"], "", "a\nb", "\ud800", HUGE, Silent()], ids=range(9))
async def test_a_lock_whose_name_is_no_name_is_refused(open_client: Any, name: Any) -> None:
    client = open_client(NOWHERE).client
    for space in (client, client.namespace("shop:")) if name != "" else (client,):
        with pytest.raises(InvalidOption, match="a lock has a name of 1 to 180 printable characters"):
            space.lock(name)


@pytest.mark.parametrize("option", ["lease", "timeout"])
@pytest.mark.parametrize("seconds", ["1", None, True, HUGE, 10**400, float("nan"), -1, Silent()], ids=range(8))
async def test_a_lock_refuses_seconds_that_are_none(open_client: Any, option: str, seconds: Any) -> None:
    with pytest.raises(InvalidOption, match=f"{option}=.* seconds"):
        open_client(NOWHERE).client.lock("nightly", **{option: seconds})


@pytest.mark.parametrize("value", [5, None, b"x", True], ids=repr)
def test_files_of_tls_and_times_of_a_back_off_have_types_too(value: Any) -> None:
    for option in ("ca", "certificate", "key", "server_name"):
        with pytest.raises(InvalidOption, match=f"{option}="):
            Tls(**{option: value})
    for option in ("first", "longest"):
        with pytest.raises(InvalidOption, match=f"{option}="):
            Backoff(**{option: -1 if value == 5 else value})


@pytest.mark.parametrize("name", ["a..b", ".a", "x" * 64, "a\0b", "\ud800"], ids=ascii)
def test_a_server_name_that_no_certificate_can_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidOption, match="server_name="):
        Tls(server_name=name)


def test_what_fits_is_taken(make: type[Any]) -> None:
    secrets = parse_secrets("client " + "s" * 16, "test")
    for options in (
        {"timeout": 1, "connect_timeout": 0.1, "lease": 10, "busy_polling": 0},
        {"cluster": "main-2.eu_west", "zone": "", "name": "café at web-01 (7)"},
        {"name": "é" * 128, "cluster": "x" * 64},
        {"role": Role.ADMIN, "secrets": secrets, "tls": Tls(Path("/ca.pem"), server_name="bücher.example")},  # type: ignore[arg-type]
        {"serializers": [], "backoff": Backoff(0, 1)},
    ):
        make(NOWHERE, config=ClientConfig(**options))  # type: ignore[arg-type]
