"""The configuration file with every option and its default, as ``kvcache config`` prints it.

Here lives the form of that file. Never here: what an option means (``options``), or reading a file.
"""

from __future__ import annotations

import json
from dataclasses import fields
from textwrap import wrap
from typing import Final

from kvcache.option_values import format_size
from kvcache.options import OPTIONS, NodeOptions, Option

__all__ = ["default_config", "shown_default"]

_WIDTH: Final = 110
_DEFAULTS: Final = {entry.name: entry.default for entry in fields(NodeOptions)}

_HEAD: Final = """\
# The options of a kvcache node, each with its default; printed by "kvcache config". Lines that are commented out have none
# that could be written here. The command line (--log-level) goes before the environment (KVCACHE_LOG_LEVEL), the environment
# before this file. Secrets are never options: secret_file names where they are.
"""


def shown_default(option: Option) -> str | int | float | None:
    """Return an option's default as a user would write it; None where there is none."""
    default = _DEFAULTS[option.name]
    if option.metavar == "SIZE" and isinstance(default, int):
        return format_size(default)
    return default if isinstance(default, str | int | float) and default != "" else None


def default_config() -> str:
    """Return the text of a TOML file that says nothing else than the defaults."""
    return _HEAD + "".join(_entry(option) for option in OPTIONS.values())


def _entry(option: Option) -> str:
    default = shown_default(option)
    about = "".join(f"# {line}\n" for line in wrap(f"{option.help} ({option.metavar})", _WIDTH))
    # A TOML string is written as a JSON string is.
    line = f'# {option.name} = "..."\n' if default is None else f"{option.name} = {json.dumps(default)}\n"
    return f"\n{about}{line}"
