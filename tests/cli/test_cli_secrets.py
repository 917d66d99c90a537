"""Commands against a node that asks for a secret: from a file, from the environment, never from the command line."""

from __future__ import annotations

import os

import pytest

from kvcache.commands.outcome import ExitCode

ADMIN, CLIENT = "a" * 32, "c" * 32


@pytest.fixture
def secret_file(tmp_path):
    def write(text):
        path = tmp_path / f"secrets-{len(text)}"
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return write


@pytest.fixture
def guarded(start_node, secret_file):
    return start_node(secret_file=secret_file(f"admin {ADMIN}\nclient {CLIENT}\n"))


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """The option is handed on by the environment; a test must not hand it to the next."""
    monkeypatch.setenv("KVCACHE_SECRET_FILE", "")
    yield
    os.environ.pop("KVCACHE_SECRET_FILE", None)


def test_a_secret_comes_from_a_file(run, guarded, secret_file):
    seeds = ("--seeds", guarded.address)
    path = secret_file(f"client {CLIENT}")
    assert run("--secret-file", path, "set", "a", "1", *seeds).exit_code == ExitCode.FINE
    assert run("--secret-file", path, "get", "a", *seeds).stdout == "1\n"


def test_a_secret_comes_from_the_environment(run, guarded):
    result = run("status", "--seeds", guarded.address, env={"KVCACHE_SECRET": ADMIN})
    assert result.exit_code == ExitCode.FINE, result.stderr


def test_without_one_a_command_says_what_to_do(run, guarded):
    result = run("get", "a", "--seeds", guarded.address)
    assert result.exit_code == ExitCode.FAILED
    assert "KVCACHE_SECRET" in result.stderr


def test_an_operation_asks_for_an_admins(run, guarded):
    words = ("admin", "cancel", "--seeds", guarded.address)
    refused = run(*words, env={"KVCACHE_SECRET": f"client {CLIENT}"})
    assert refused.exit_code == ExitCode.FAILED
    assert "no secret that is good for the role admin" in refused.stderr


def test_no_option_takes_a_secret_itself(run):
    for words in (("node", "--help"), ("get", "--help"), ("--help",)):
        assert "--secret " not in run(*words).stdout
