"""Trust: which owners a read may ask.

Here lives the choice that comes before the balancing policy's. Never here: asking, or why a node is avoided (``health``,
``breaker``) or not believed (``lagging``).
"""

from __future__ import annotations

from kvcache_client.core.balancing import Owners
from kvcache_client.core.brain import Brain
from kvcache_client.core.routing import View

__all__ = ["trusted_owners"]


def trusted_owners(brain: Brain, view: View, partition: int, name: bytes) -> Owners:
    """Return the owners whose word on a key may be taken, those that are not avoided; none is left out without need."""
    owners = view.owners[partition]
    if brain.behind:
        lagging = brain.lagging.of(partition, name)
        owners = tuple([node for node in owners if node not in lagging])
    if not brain.avoided:
        return owners
    well = tuple([node for node in owners if node not in brain.avoided])
    return well or tuple([node for node in owners if node not in brain.down])
