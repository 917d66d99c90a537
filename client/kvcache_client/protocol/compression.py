"""Compression: large payloads made smaller, and small ones never made enormous.

Here lives what the compression bits of a record mean. Never here: when to compress (``core.values``).

A few hundred bytes may claim to be gigabytes. So the size that a payload names is looked at before anything is expanded,
and one that names none, or lies, is expanded into a buffer of the limit and no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, Final

from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.record import COMPRESSION_MASK, COMPRESSION_SHIFT, FLAGS, HEADER_BYTES
from kvcache_client.protocol.shown import shown
from kvcache_client.protocol.value_errors import ExpandedTooLarge, MissingExtra

__all__ = ["COMPRESSIONS", "Compression", "compression_called", "expanded"]

_ZSTD_LEVEL: Final = 3
"""What zstd itself takes for a good balance."""


class Compression(ABC):
    """One way to compress. Its package is an extra, so it is loaded when it is first used."""

    name: ClassVar[str]
    code: ClassVar[int]
    """The number in a record's flags."""
    package: ClassVar[str]

    def __init__(self) -> None:
        self._module: ModuleType | None = None

    def library(self) -> Any:
        """Return the package. Raises ``ImportError`` unless it is installed."""
        if self._module is None:
            self._module = import_module(self.package)
        return self._module

    @abstractmethod
    def compress(self, payload: bytes) -> bytes:
        """Return the compressed form."""

    @abstractmethod
    def expand(self, payload: bytes, limit: int) -> bytes:
        """Return the original. Raises ``ExpandedTooLarge``, ``ValueError`` if it is damaged, ``ImportError``."""

    def __repr__(self) -> str:
        return f"<{self.name} {'loaded' if self._module else 'not loaded'}>"


class _Zstd(Compression):
    """RFC 8878. Making a context costs more than using it, so idle ones are kept; each serves one call at a time."""

    name = "zstd"
    code = 1
    package = "zstandard"

    def __init__(self) -> None:
        super().__init__()
        self._compressors: list[Any] = []
        self._expanders: list[Any] = []

    def compress(self, payload: bytes) -> bytes:
        library = self.library()
        try:
            context = self._compressors.pop()
        except IndexError:
            context = library.ZstdCompressor(level=_ZSTD_LEVEL)
        smaller: bytes = context.compress(payload)
        self._compressors.append(context)
        return smaller

    def expand(self, payload: bytes, limit: int) -> bytes:
        library = self.library()
        try:
            context = self._expanders.pop()
        except IndexError:
            context = library.ZstdDecompressor()
        size = 0
        try:
            size = library.frame_content_size(payload)  # -1 if the frame does not tell
            if size > limit:  # max_output_size does not count where the frame tells its size
                raise _too_large(size, limit)
            original: bytes = context.decompress(payload, max_output_size=limit, allow_extra_data=False)
        except library.ZstdError as error:
            if size < 0 and "did not decompress full frame" in str(error):
                raise _too_large(None, limit) from error
            raise ValueError(str(error)) from error
        finally:
            self._expanders.append(context)
        return original


class _Lz4(Compression):
    """The LZ4 frame format."""

    name = "lz4"
    code = 2
    package = "lz4.frame"

    def compress(self, payload: bytes) -> bytes:
        smaller: bytes = self.library().compress(payload)
        return smaller

    def expand(self, payload: bytes, limit: int) -> bytes:
        expander = self.library().LZ4FrameDecompressor()
        try:
            original: bytes = expander.decompress(payload, max_length=limit + 1)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        if len(original) > limit:
            raise _too_large(None, limit)
        if not expander.eof or expander.unused_data:
            raise ValueError("it is not one whole frame")
        return original


COMPRESSIONS: Final[dict[int, Compression]] = {kind.code: kind for kind in (_Zstd(), _Lz4())}
"""Number in the flags -> how."""


def compression_called(name: str) -> Compression:
    """Return the compression of that name, its package loaded. Raises ``InvalidOption``."""
    for kind in COMPRESSIONS.values():
        if kind.name == name:
            try:
                kind.library()
            except ImportError as error:
                raise InvalidOption(f"compression={name!r} needs a package: pip install 'kvcache[{name}]'") from error
            return kind
    known = ", ".join(repr(kind.name) for kind in COMPRESSIONS.values())
    raise InvalidOption(f"compression={shown(name, 40)}: must be one of {known}, or None")


def expanded(record: bytes, limit: int) -> bytes | None:
    """Return a compressed record as it was before, or None if its compression is not known.

    Raises ``ExpandedTooLarge`` beyond ``limit`` bytes of payload, ``MissingExtra``, or ``ValueError`` if it is damaged.
    """
    kind = COMPRESSIONS.get((record[FLAGS] & COMPRESSION_MASK) >> COMPRESSION_SHIFT)
    if kind is None:
        return None
    try:
        payload = kind.expand(record[HEADER_BYTES:], limit)
    except ImportError as error:
        raise MissingExtra(f"compressed by {kind.name}; to read it: pip install 'kvcache[{kind.name}]'") from error
    return record[:FLAGS] + bytes((record[FLAGS] & ~COMPRESSION_MASK,)) + payload


def _too_large(size: int | None, limit: int) -> ExpandedTooLarge:
    claims = "more" if size is None else f"{size} bytes"
    return ExpandedTooLarge(f"a compressed value of {claims}; the limit (expanded_limit) is {limit} bytes")
