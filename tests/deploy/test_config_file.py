"""The configuration file in deploy/ is the one that the code prints, and says nothing else than the defaults."""

import tomllib

from deploy_files import DEPLOY
from typer.testing import CliRunner

from kvcache.cli import app
from kvcache.option_file import default_config
from kvcache.options import OPTIONS, NodeOptions, resolve_options


def test_the_file_is_what_the_command_prints():
    printed = CliRunner().invoke(app, ["config"])
    assert printed.exit_code == 0
    assert (DEPLOY / "kvcache.toml").read_text() == printed.output == default_config()


def test_a_node_that_reads_it_has_its_defaults():
    assert resolve_options({}, {}, tomllib.loads(default_config())) == NodeOptions()


def test_every_option_is_in_it_once():
    lines = [line.removeprefix("# ") for line in default_config().splitlines()]
    for name in OPTIONS:
        assert sum(line.startswith(f"{name} = ") for line in lines) == 1, name
