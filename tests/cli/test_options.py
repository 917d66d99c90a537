"""Node options: one table, four sources, clear errors."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from kvcache.options import OPTIONS, NodeOptions, load_options, read_config, resolve_options
from kvcache_client.protocol.errors import InvalidOption


def test_the_table_names_every_field_once_under_three_names():
    assert list(OPTIONS) == [field.name for field in fields(NodeOptions)]
    assert OPTIONS["log_level"].flag == "--log-level"
    assert OPTIONS["log_level"].variable == "KVCACHE_LOG_LEVEL"


def test_without_any_source_the_defaults_hold():
    options = load_options({}, {})
    assert options == NodeOptions()
    assert (options.listen, options.advertise, options.id) == (
        "127.0.0.1:7700",
        "127.0.0.1:7700",
        "node-127.0.0.1-7700",
    )
    assert (options.memory, options.coordinator, options.replication_factor) == (256 << 20, None, 2)


EVERY = {
    "listen": ("0.0.0.0:7800", "127.0.0.1:7801", "127.0.0.1:7802"),
    "advertise": ("10.0.0.1:7800", "10.0.0.1:7801", "10.0.0.1:7802"),
    "id": ("a", "b", "c"),
    "zone": ("a", "b", "c"),
    "weight": ("2", "3", 4),
    "memory": ("2GiB", "3GiB", "4GiB"),
    "coordinator": ("redis://a", "redis://b", "redis://c"),
    "cluster": ("a", "b", "c"),
    "replication_factor": ("3", "4", 5),
    "max_connections": ("20", "30", 40),
    "limits": ("stream.hello_seconds=1", "stream.hello_seconds=2", "stream.hello_seconds=3"),
    "value_limit": ("2MiB", "3MiB", 4 << 20),
    "secret_file": ("/a", "/b", "/c"),
    "tls_certificate": ("/a", "/b", "/c"),
    "tls_key": ("/a", "/b", "/c"),
    "tls_ca": ("/a", "/b", "/c"),
    "tls_client_ca": ("/a", "/b", "/c"),
    "log_level": ("debug", "warning", "error"),
    "log_format": ("json", "text", "json"),
    "slow_ms": ("0", "20", 30),
    "busy_polling": ("0", "0.00002", 0.00003),
}


OF_TWO_VALUES = {"log_format"}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_command_line_goes_before_the_environment_before_the_file_before_the_default(name):
    word, variable, entry = EVERY[name]
    base = {"advertise": "10.0.0.9:7700", "tls_certificate": "/z"}
    environment, file = {OPTIONS[name].variable: variable}, {**base, name: entry}
    expected = [getattr(replace(NodeOptions(), **{**base, name: value}), name) for value in (word, variable, entry)]
    assert getattr(resolve_options({name: word}, environment, file), name) == expected[0]
    assert getattr(resolve_options({name: None}, environment, file), name) == expected[1]
    assert getattr(resolve_options({}, {}, file), name) == expected[2]
    assert len({*expected, getattr(NodeOptions(), name)}) == (2 if name in OF_TWO_VALUES else 4)


@pytest.mark.parametrize("name", ["tls_key", "tls_ca", "tls_client_ca"])
def test_tls_without_a_certificate_would_be_none(name):
    with pytest.raises(InvalidOption, match=f"{name} is set without tls_certificate"):
        NodeOptions(**{name: "/a"})


def test_an_error_names_the_option_as_its_source_does(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text("weight = 0")
    for match, source in (
        ("--weight: 'x' is not a whole number", ({"weight": "x"}, {}, None)),
        (r"KVCACHE_WEIGHT: '1001' is not within 1\.\.1000", ({}, {"KVCACHE_WEIGHT": "1001"}, None)),
        (f"weight in {path}: 0 is not within", ({}, {}, str(path))),
    ):
        with pytest.raises(InvalidOption, match=match):
            load_options(*source)


def test_the_file_may_be_named_on_the_command_line_or_in_the_environment(tmp_path):
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text('cluster = "one"\nmemory = "64MiB"\nweight = 3')
    two.write_text('cluster = "two"')
    assert load_options({}, {"KVCACHE_CONFIG": str(two)}).cluster == "two"
    options = load_options({}, {"KVCACHE_CONFIG": str(two)}, str(one))
    assert (options.cluster, options.memory, options.weight) == ("one", 64 << 20, 3)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"memroy = 1", "'memroy', which is no option; did you mean 'memory'"),
        (b"[node]\nmemory = 1", "'node', which is no option"),
        (b"memory = ", "not valid TOML"),
        (b"\xff", "not valid TOML"),
        (None, "cannot read"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path, content, match):
    path = tmp_path / "node.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidOption, match=match) as caught:
        read_config(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "nowhere"),
        ("advertise", "0.0.0.0:1"),
        ("advertise", "-bad-:7700"),
        ("id", "a b"),
        ("zone", "a/b"),
        ("weight", 0),
        ("weight", True),
        ("memory", 1000),
        ("memory", "256 potatoes"),
        ("coordinator", "http://x"),
        ("cluster", ""),
        ("replication_factor", 9),
        ("max_connections", 0),
        ("value_limit", "17MiB"),
        ("log_level", "loud"),
        ("busy_polling", 0.0011),
        ("busy_polling", -0.00001),
        ("busy_polling", "nan"),
        ("busy_polling", True),
    ],
)
def test_a_bad_value_is_refused_also_from_a_program(name, value):
    with pytest.raises(InvalidOption):
        NodeOptions(**{name: value})


def test_a_value_limit_over_the_memory_is_refused():
    with pytest.raises(InvalidOption, match="value_limit 2097152 is over memory 1048576"):
        NodeOptions(memory="1MiB", value_limit="2MiB")


def test_listening_on_every_address_needs_one_to_advertise():
    with pytest.raises(InvalidOption, match="advertise"):
        NodeOptions(listen="0.0.0.0:7700")
    assert NodeOptions(listen="0.0.0.0:7700", advertise="10.0.0.1:7700").id == "node-10.0.0.1-7700"


def test_a_free_port_completes_the_options_once_it_is_known():
    waiting = NodeOptions(listen="[::1]:0")
    assert (waiting.advertise, waiting.id) == ("", "")
    bound = waiting.bound_to(7711)
    assert (bound.listen, bound.advertise, bound.id) == ("[::1]:7711", "[::1]:7711", "node-1-7711")


def test_a_given_name_outlives_the_port():
    bound = NodeOptions(listen="127.0.0.1:0", advertise="10.0.0.1:7700", id="alpha").bound_to(7711)
    assert (bound.advertise, bound.id) == ("10.0.0.1:7700", "alpha")


def test_the_member_is_what_the_options_say():
    member = NodeOptions(id="alpha", zone="east", weight=3).member(incarnation="1", state="joining")
    assert (member.id, member.address, member.zone, member.weight) == ("alpha", "127.0.0.1:7700", "east", 3)
    assert (member.state, member.incarnation) == ("joining", "1")


def test_the_password_of_the_coordinator_is_not_shown():
    assert "swordfish" not in repr(NodeOptions(coordinator="redis://:swordfish@host"))
