"""The command line: ``kvcache up | node | status | get | set | del | explain | admin ...``.

Here lives the list of commands. Never here: what they do (``commands``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import typer

from kvcache.commands.admin import admin
from kvcache.commands.data import delete, explain, get, put
from kvcache.commands.node import config, node
from kvcache.commands.outcome import CODES_HELP
from kvcache.commands.status import status
from kvcache.commands.up import up
from kvcache_client.credentials import SECRET_FILE_VARIABLE

__all__ = ["app", "main"]

app = typer.Typer(
    name="kvcache",
    help="A distributed in-memory key-value cache.",
    epilog=CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"kvcache {version('kvcache')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    secret_file: Annotated[
        str | None,
        typer.Option(
            envvar=SECRET_FILE_VARIABLE,
            metavar="FILE",
            help="Where the secret is that the cluster asks for; else KVCACHE_SECRET holds it.",
        ),
    ] = None,
) -> None:
    if secret_file:  # so that every client finds it, and every process that is started from here
        os.environ[SECRET_FILE_VARIABLE] = secret_file


_COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "up": up,
    "node": node,
    "config": config,
    "status": status,
    "get": get,
    "set": put,
    "del": delete,
    "explain": explain,
}

app.add_typer(admin, epilog=CODES_HELP)

for _name, _command in _COMMANDS.items():
    app.command(_name, epilog=CODES_HELP)(_command)


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit with its code."""
    app()
