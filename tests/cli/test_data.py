"""get, set, del and explain: what they hand to the client and what they make of its answers."""

from __future__ import annotations

import json

import pytest

from kvcache.commands import data
from kvcache_client.core.results import CopyReport, Entry, Explanation
from kvcache_client.protocol.errors import InvalidTtl, NotApplied, Unavailable


class FakeClient:
    """A client whose cluster is a dict."""

    def __init__(self) -> None:
        self.values = {}
        self.ttls = {}
        self.error = None

    def __enter__(self):
        if self.error:
            raise self.error
        return self

    def __exit__(self, *_):
        return None

    def get_entry(self, key):
        return Entry(self.values[key], 7, self.ttls.get(key)) if key in self.values else None

    def set(self, key, value, ttl=None):
        self.values[key] = value
        self.ttls[key] = ttl

    def delete(self, key):
        return self.values.pop(key, None) is not None

    def explain(self, key):
        return Explanation(
            key.encode(),
            42,
            3,
            (
                CopyReport("a", "h:1", "primary", "up", 9, 1_700_000_000_000),
                CopyReport("b", "h:2", "owner", "down: refused", error="ConnectFailed: refused"),
                CopyReport("c", "h:3", "stand-in", "up", 9, None, tombstone=True, kept_for=("b",), why="number 3"),
                CopyReport("d", "h:4", "stand-in", "up", zone="z", member="up", last_error="NoAnswer: (1.0 s ago)"),
            ),
            move="stream (concerns this partition)",
            balancing="primary",
            read_from="a",
        )


@pytest.fixture
def client(monkeypatch):
    fake = FakeClient()
    fake.asked = []
    monkeypatch.setattr(data, "connect", lambda seeds, timeout: fake.asked.append((seeds, timeout)) or fake)
    return fake


def test_a_value_is_printed(run, client):
    client.values["k"] = "hello"
    assert run("get", "k").stdout == "hello\n"


def test_a_miss_has_code_1_and_prints_nothing_on_stdout(run, client):
    result = run("get", "k")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "not found: k\n"


def test_a_stored_none_is_no_miss(run, client):
    client.values["k"] = None
    result = run("get", "k")
    assert (result.exit_code, result.stdout) == (0, "null\n")


def test_json_shows_the_version_and_the_time_left(run, client):
    client.values["k"], client.ttls["k"] = [1], 2.5
    assert json.loads(run("get", "k", "--json").stdout) == {"key": "k", "value": [1], "version": 7, "ttl": 2.5}


def test_a_value_is_stored_as_text(run, client):
    assert run("set", "k", "5").exit_code == 0
    assert client.values == {"k": "5"}


def test_a_value_is_stored_as_what_its_json_says(run, client):
    run("set", "k", '{"a": [1, null]}', "--json-value", "--ttl", "1.5")
    assert client.values == {"k": {"a": [1, None]}}
    assert client.ttls == {"k": 1.5}
    for ttl, said in (("5m", "5m"), ("90", 90.0), ("1_0", "1_0")):  # what is no number is the client's to read
        run("set", "k", "v", "--ttl", ttl)
        assert client.ttls == {"k": said}


def test_bad_json_is_refused_before_anything_is_sent(run, client):
    result = run("set", "k", "{", "--json-value")
    assert result.exit_code == 2
    assert result.stderr.startswith("UnsupportedValue: VALUE is not JSON")
    assert not client.asked


@pytest.mark.parametrize(("given", "stored"), [(b"text\n", "text\n"), (b"", ""), (b"\xff\x00", b"\xff\x00")])
def test_stdin_is_stored_as_it_comes(run, client, given, stored):
    assert run("set", "k", "-", input=given).exit_code == 0
    assert client.values == {"k": stored}


def test_a_value_that_begins_with_a_dash_follows_two_dashes(run, client):
    assert run("set", "--", "k", "-5").exit_code == 0
    assert client.values == {"k": "-5"}


def test_deletes_are_counted_and_a_missing_key_has_code_1(run, client):
    client.values.update(a=1, b=2)
    result = run("del", "a", "c", "b")
    assert (result.exit_code, result.stdout) == (1, "2\n")
    client.values.update(a=1)
    assert run("del", "a").exit_code == 0


def test_an_explanation_shows_each_copy(run, client):
    lines = run("explain", "k").stdout.splitlines()
    assert lines[0] == "key 'k' is in partition 42 (epoch 3)"
    assert lines[1] == "a read would ask a (primary)"
    assert lines[2] == "data moves: stream (concerns this partition)"
    assert lines[5].split()[:7] == ["a", "h:1", "primary", "-", "-", "up", "9"]
    assert "2023-11-14T22:13:20.000+00:00" in lines[5]
    kept = "a tombstone, kept for b"
    for line, holding in zip(lines[5:9], ["a record", "ConnectFailed: refused", kept, "nothing"], strict=True):
        assert holding in line
    assert lines[7].rstrip().endswith("number 3")
    assert lines[8].split()[2:5] == ["stand-in", "z", "up"]
    assert lines[9:] == ["last error of d: NoAnswer: (1.0 s ago)"]


def test_an_explanation_as_json_has_the_same(run, client):
    report = json.loads(run("explain", "k", "--json").stdout)
    assert (report["key"], report["partition"], len(report["copies"])) == ("k", 42, 4)


@pytest.mark.parametrize("words", [["get", "k"], ["set", "k", "v"], ["del", "k"], ["explain", "k"]])
@pytest.mark.parametrize(
    ("error", "code"), [(Unavailable("a: refused"), 3), (NotApplied("no"), 3), (InvalidTtl("ttl=0"), 2)]
)
def test_an_error_is_one_line_and_a_code(run, client, words, error, code):
    client.error = error
    result = run(*words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"{type(error).__name__}: {error}\n"


def test_seeds_come_from_the_command_line_or_else_the_environment(run, client):
    run("get", "k")
    run("get", "k", env={"KVCACHE_SEEDS": "a:1", "KVCACHE_TIMEOUT": "5"})
    run("get", "k", "--seeds", "b:1,b:2", "--timeout", "0.5", env={"KVCACHE_SEEDS": "a:1"})
    assert client.asked == [("127.0.0.1:7700", 2.0), ("a:1", 5.0), ("b:1,b:2", 0.5)]


def test_a_cluster_that_is_not_there_names_the_seed(shell):
    result = shell("get", "k", "--seeds", "127.0.0.1:1")
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert "127.0.0.1:1" in result.stderr
