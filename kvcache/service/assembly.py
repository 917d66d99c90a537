"""Assembly: a service with all the verbs that clients use.

Here lives which groups of verbs make a node. Never here: any verb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvcache.service.batches import BatchVerbs
from kvcache.service.conversation import ConversationVerbs
from kvcache.service.deciding import DecidingVerbs
from kvcache.service.leasing import LeaseVerbs
from kvcache.service.service import Identity, Service
from kvcache.store.store import Store
from kvcache_client.protocol.version import HybridClock

__all__ = ["assemble"]


def assemble(identity: Identity, store: Store, clock: HybridClock, statistics: Callable[[], dict[str, Any]]) -> Service:
    """Return the service of a node. ``statistics`` is called for STATS and must return plain data."""
    service = Service(identity, store, clock)
    service.add(ConversationVerbs(service, statistics).handlers)
    service.add(BatchVerbs(service).handlers)
    deciding = DecidingVerbs(service)
    service.add(deciding.handlers)
    service.add(LeaseVerbs(service, deciding).handlers)
    return service
