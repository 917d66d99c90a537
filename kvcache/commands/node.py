"""``kvcache node``: one node process, and ``kvcache config``: the file that it can be told everything in.

Here lives the command line of a node, made from the table of options, and the start of its event loop and its log.
Never here: what an option means (``options``) or what a node does (``kvcache.node``).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from kvcache.commands.outcome import reported
from kvcache.logs import configure_log
from kvcache.option_file import default_config, shown_default
from kvcache.options import CONFIG_VARIABLE, OPTIONS, Option, load_options

__all__ = ["config", "node"]


def _help(option: Option) -> str:
    default = shown_default(option)
    shown = "" if default is None else f"; default {default}"
    return f"{option.help} ({option.variable}{shown})"


def _parameters() -> list[inspect.Parameter]:
    config = typer.Option(None, "--config", metavar="FILE", help=f"A TOML file of these options. ({CONFIG_VARIABLE})")
    given = {"config": config} | {
        option.name: typer.Option(None, option.flag, metavar=option.metavar, help=_help(option), show_default=False)
        for option in OPTIONS.values()
    }
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=str | None)
        for name, default in given.items()
    ]


def _node(*, config: str | None = None, **given: object) -> None:
    """Run one node until SIGTERM or SIGINT.

    Each option may also come from the environment or from a TOML file (its name there: --log-level is log_level).
    The command line goes before the environment, the environment before the file.
    """
    options = load_options(given, os.environ, config)
    configure_log(options.log_level, options.log_format, options.id or "node")
    from kvcache.node_process import run

    raise typer.Exit(_loop_runner()(run(options)))


def _loop_runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    try:
        import uvloop
    except ImportError:  # there is none for this platform
        import asyncio

        return asyncio.run
    return uvloop.run


# typer reads a command's options from its signature, and this one's come from a table.
_node.__signature__ = inspect.Signature(_parameters())  # type: ignore[attr-defined]
_node.__annotations__ = dict.fromkeys(("config", *OPTIONS), str | None)
_node.__name__ = "node"
node = reported(_node)


def config() -> None:
    """Print a configuration file with every option of a node and its default."""
    print(default_config(), end="")
