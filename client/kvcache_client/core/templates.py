"""Templates: keys made of a function's arguments.

Here lives ``"user:{id}"``: which arguments it names, and what becomes of it in a call. Never here: calling the function.
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Mapping
from typing import Any, Final

from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.shown import shown

__all__ = ["KeyTemplate"]

_NAME: Final = re.compile(r"[^.\[]+")


class KeyTemplate:
    """The keys of one function. Refuses at once a template that names no argument of it. Calls bind as Python does."""

    __slots__ = ("_signature", "function", "template")

    def __init__(self, template: str, function: Callable[..., Any]) -> None:
        if not isinstance(template, str) or not template:
            raise InvalidOption(f"key={shown(template)}: must be a text like 'user:{{id}}'")
        self.template = template
        self.function = getattr(function, "__qualname__", repr(function))
        self._signature = inspect.signature(function)
        names = list(self._signature.parameters)
        for field in self._fields():
            match = _NAME.match(field)
            if match is None or match[0] not in names:
                has = ", ".join(map(repr, names)) or "none"
                raise InvalidOption(f"key={shown(template)}: {self.function} has no argument {field!r}; it has {has}")

    def _fields(self) -> list[str]:
        try:
            parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise InvalidOption(f"key={self.template!r:.80}: {error}") from error
        nested = [inner for _, _, spec, _ in parts if spec for _, inner, _, _ in string.Formatter().parse(spec)]
        return [field for field in (*(field for _, field, _, _ in parts), *nested) if field is not None]

    def key(self, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> str:
        """Return the key of one call. Raises ``TypeError`` as the call would, if the arguments do not fit."""
        bound = self._signature.bind(*arguments, **options)
        bound.apply_defaults()
        return self.template.format_map(bound.arguments)

    def __repr__(self) -> str:
        return f"<KeyTemplate {self.template!r} of {self.function}>"
