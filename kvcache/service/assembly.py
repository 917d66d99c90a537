"""Assembly: a service with all the verbs that clients use.

Here lives which groups of verbs make a node. Never here: any verb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvcache.service.batches import BatchVerbs
from kvcache.service.conversation import ConversationVerbs
from kvcache.service.deciding import DecidingVerbs
from kvcache.service.deputy import Deputy
from kvcache.service.leasing import LeaseVerbs
from kvcache.service.service import Identity, Service
from kvcache.store.store import Store
from kvcache_client.protocol.version import HybridClock

__all__ = ["assemble"]


def assemble(
    identity: Identity,
    store: Store,
    clock: HybridClock,
    statistics: Callable[[], dict[str, Any]],
    deputy: Deputy | None = None,
) -> Service:
    """Return the service of a node. ``statistics`` is called for STATS and must return plain data.

    ``deputy`` says which other nodes are out of reach; without one, whoever is asked decides.
    """
    service = Service(identity, store, clock)
    service.add(ConversationVerbs(service, statistics).handlers)
    service.add(BatchVerbs(service).handlers)
    deciding = DecidingVerbs(service, deputy)
    service.add(deciding.handlers)
    service.add(LeaseVerbs(service, deciding).handlers)
    return service
