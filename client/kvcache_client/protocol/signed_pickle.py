"""Pickle for those who cannot do without: signed, and never unpickled before the signature was found to be good.

Here lives the one use of pickle in the project. It is not a default of anything; a program makes a ``SignedPickle`` with its
own secret and passes it as ``serializer``. Whoever knows the secret can run code in every program that reads with it.

The payload is the HMAC-SHA256 (RFC 2104) of a label and the pickle, then the pickle. The signature says who wrote the value,
not under which key or when: whoever may write to the cluster can still put an old value back or under another key.
"""

from __future__ import annotations

import hmac
import pickle  # read only behind a signature
from typing import Any, Final

from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.value_errors import ForgedValue

__all__ = ["SignedPickle"]

_LABEL: Final = b"kvcache signed pickle 1\0"
_SIGNATURE_BYTES: Final = 32
_SECRET_BYTES: Final = 16
"""A shorter secret can be guessed."""
_PROTOCOL: Final = 4
"""Every Python that kvcache runs on reads it."""


class SignedPickle:
    """A serializer for whatever pickle takes, trusted only if it was signed with one of the secrets.

    The first secret signs. To change it, give the new one first and keep the old one behind it until all that it signed
    has expired: ``SignedPickle(new, old)``. Raises ``InvalidOption`` for a secret below 16 bytes.
    """

    name = "signed-pickle"

    def __init__(self, secret: bytes, *older: bytes) -> None:
        for each in (secret, *older):
            if not isinstance(each, bytes) or len(each) < _SECRET_BYTES:
                size = f"{len(each)} bytes" if isinstance(each, bytes) else f"a {type(each).__name__}"
                raise InvalidOption(f"a secret of SignedPickle is bytes, at least {_SECRET_BYTES} of them, not {size}")
        self._secrets = (secret, *older)

    def dumps(self, value: Any) -> bytes:
        """Return signature and pickle of ``value``."""
        data = pickle.dumps(value, protocol=_PROTOCOL)
        return _sign(self._secrets[0], data) + data

    def loads(self, data: bytes) -> Any:
        """Return the value. Raises ``ForgedValue`` before anything is unpickled."""
        signature, pickled = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
        # All are tried, so that the time does not tell which one was right.
        if not any([hmac.compare_digest(signature, _sign(secret, pickled)) for secret in self._secrets]):  # noqa: C419
            raise ForgedValue("a pickle that none of the known secrets has signed; it was not unpickled")
        return pickle.loads(pickled)  # noqa: S301  # whoever signed it knows the secret

    def __repr__(self) -> str:
        return f"<SignedPickle secrets={len(self._secrets)}>"


def _sign(secret: bytes, data: bytes) -> bytes:
    return hmac.digest(secret, _LABEL + data, "sha256")
