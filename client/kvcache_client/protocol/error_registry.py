"""The root of the error tree, and the registry of the errors that can travel.

Here lives what all errors are and how a class takes its wire code. Never here: any error that says something (``errors``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

__all__ = ["ERRORS", "KvCacheError"]

_registry: dict[int, type[KvCacheError]] = {}

ERRORS: Final[Mapping[int, type[KvCacheError]]] = _registry
"""Wire code -> class, for every error that can travel. Codes below 16 are statuses (``verbs.Status``)."""


class KvCacheError(Exception):
    """Root of the tree. ``node`` names the node that said it, ``detail`` is the number or bytes that came with it."""

    code: ClassVar[int | None] = None
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    closes_connection: ClassVar[bool] = False

    def __init__(self, message: str = "", *, node: str | None = None, detail: Any = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.node = node
        self.detail = detail

    def __str__(self) -> str:
        text = Exception.__str__(self)  # not super(): KeyError would show it as repr
        return f"{text} [node {self.node}]" if self.node else text

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        code = cls.__dict__.get("code")
        if code is None:
            cls.code = None
        elif code in _registry:
            raise TypeError(f"wire code {code} is taken by {_registry[code].__name__}")
        else:
            _registry[code] = cls
