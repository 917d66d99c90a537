"""Exit codes: one for each kind of error, and one line that says why."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from kvcache.commands.outcome import ExitCode, exit_code_of, reported
from kvcache_client.protocol import errors

CODES = {
    errors.InvalidKey: ExitCode.USAGE,
    errors.InvalidOption: ExitCode.USAGE,
    errors.UnsupportedValue: ExitCode.USAGE,
    errors.Unavailable: ExitCode.UNAVAILABLE,
    errors.ConnectFailed: ExitCode.UNAVAILABLE,
    errors.DeadlineExceeded: ExitCode.UNAVAILABLE,
    errors.ControlPlaneUnavailable: ExitCode.UNAVAILABLE,
    errors.NoAnswer: ExitCode.UNAVAILABLE,
    errors.ConnectionLost: ExitCode.UNAVAILABLE,
    errors.TopologyError: ExitCode.FAILED,
    errors.WrongCluster: ExitCode.FAILED,
    errors.NodeFault: ExitCode.FAILED,
    errors.UndecodableValue: ExitCode.FAILED,
}


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_each_kind_of_error_has_its_code(kind):
    assert exit_code_of(kind("why")) == CODES[kind]


def test_an_error_becomes_one_line_with_its_class(capsys):
    def command() -> None:
        raise errors.Unavailable("nobody:\nnode a\nnode b")

    with pytest.raises(typer.Exit) as caught:
        reported(command)()
    assert caught.value.exit_code == 3
    assert capsys.readouterr().err == "Unavailable: nobody:; node a; node b\n"


def test_a_command_keeps_its_name_and_its_words():
    def command(key: str) -> None:
        """Do it."""

    assert (reported(command).__name__, reported(command).__doc__) == ("command", "Do it.")


def test_a_bug_is_not_hidden():
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reported(command)()


def test_a_reader_that_has_seen_enough_is_no_error():
    script = """
import sys, typer
from kvcache.commands.outcome import reported
try:
    reported(lambda: print("x" * 1_000_000))()
except typer.Exit as ending:
    sys.exit(ending.exit_code)
"""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")
