"""The memory of a node: no await, no wire, no clock of its own.

Here lives what keeps records within a budget and forgets them in time. Never here: anything that knows a socket, a
verb or another node. ``store`` has the rules, ``live`` and ``graves`` the values and the tombstones, ``rows`` their memory;
``eviction`` (with ``fifo``, ``ghost`` and ``uses``) decides what goes, ``deadlines`` (for tombstones ``expiry``) when; ``sizes``
knows what it costs, ``governor`` what it may cost, and ``audit`` recounts it all.
"""

from kvcache.store.audit import StoreCorrupted
from kvcache.store.config import MIN_BUDGET_BYTES, StoreConfig
from kvcache.store.outcome import Put
from kvcache.store.statistics import StoreStatistics
from kvcache.store.store import Store

__all__ = ["MIN_BUDGET_BYTES", "Put", "Store", "StoreConfig", "StoreCorrupted", "StoreStatistics"]
