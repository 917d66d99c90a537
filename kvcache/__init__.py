"""kvcache: the node, and the cluster it forms.

Here lives everything that runs on the servers. A program that only uses a cluster needs ``kvcache_client`` and nothing of this.
"""

__all__: list[str] = []
