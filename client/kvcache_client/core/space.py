"""Spaces: the part of a cluster's keys that one face of a client speaks of.

Here lives what a namespace is: how its keys become bytes, how its values are stored, and what its reads have found. Never
here: what a verb does with them (``plans``).

Every plan takes the brain first and a space second. A client without a namespace speaks of the space without a prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvcache_client.core.lookups import Lookups
from kvcache_client.core.values import Decode, Encode, ValueForm
from kvcache_client.protocol.codec import Key, encode_key, prefixed
from kvcache_client.protocol.serializers import Serializer

__all__ = ["Space", "Spaces"]

_SPACES_COUNTED: Final = 1000
"""Namespaces with counters of their own; a program that makes one for each of its users shares those of the rest."""

_REST: Final = b"(others)"


class Space:
    """A prefix of keys, with the form of its values and the counters of its reads."""

    __slots__ = ("decode", "encode", "form", "lookups", "name_of", "prefix")

    def __init__(self, prefix: bytes, form: ValueForm, lookups: Lookups) -> None:
        self.prefix = prefix
        self.name_of: Callable[[Key], bytes] = prefixed(encode_key, prefix) if prefix else encode_key
        """Turns a caller's key into that of the cluster. Raises ``InvalidKey``."""
        self.form = form
        self.encode: Encode = form.encoder()
        self.decode: Decode = form.decoder()
        self.lookups = lookups

    def __repr__(self) -> str:
        return f"<Space {self.prefix!r} {self.lookups!r}>"


class Spaces:
    """The spaces of one client. Those with the same prefix share their counters."""

    __slots__ = ("lookups", "whole")

    def __init__(self, form: ValueForm) -> None:
        self.lookups: dict[bytes, Lookups] = {}
        """Prefix -> what reads have found."""
        self.whole = Space(b"", form, self._lookups_of(b""))
        """The space without a prefix."""

    def within(self, space: Space, prefix: Key, serializer: str | Serializer | None = None) -> Space:
        """Return the space of the keys of ``space`` that begin with ``prefix``. Raises ``InvalidKey``, ``InvalidOption``."""
        name = space.name_of(prefix)
        form = space.form if serializer is None else space.form.with_serializer(serializer)
        return Space(name, form, self._lookups_of(name))

    def _lookups_of(self, prefix: bytes) -> Lookups:
        if prefix not in self.lookups and len(self.lookups) >= _SPACES_COUNTED:
            prefix = _REST
        return self.lookups.setdefault(prefix, Lookups())

    def __repr__(self) -> str:
        return f"<Spaces {self.lookups!r}>"
