"""Why a stored value cannot be read here: the branch of the error tree below ``UndecodableValue``.

All keep the raw record in ``detail``. None travels on the wire. The tree as a whole is drawn in ``errors``. ::

    UndecodableValue
    |-- UnknownSerializer            by a serializer that this client was not given
    |-- MissingExtra                 compressed, and what expands it is not installed
    |-- ExpandedTooLarge             it would expand beyond the limit
    `-- ForgedValue                  its signature is wrong
"""

from __future__ import annotations

from kvcache_client.protocol.errors import UndecodableValue

__all__ = ["ExpandedTooLarge", "ForgedValue", "MissingExtra", "UnknownSerializer"]


class UnknownSerializer(UndecodableValue):
    """The value was written by a serializer that this client was not given; the message names it."""


class MissingExtra(UndecodableValue):
    """The value is compressed and the package that expands it is not installed; the message says what to install."""

    http_status = 501


class ExpandedTooLarge(UndecodableValue):
    """The compressed value would expand beyond the limit (``expanded_limit``); it was not expanded."""

    http_status = 413


class ForgedValue(UndecodableValue):
    """The signature of the value is not by any of the keys that this client knows; it was not unpickled."""
