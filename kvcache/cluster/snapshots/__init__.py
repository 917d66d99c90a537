"""Snapshots: the records of a whole cluster in a directory, to be restored into a cluster of any size.

``SnapshotWriter`` writes one, ``SnapshotReader`` reads one; ``layout`` describes the files. Never here: where the records
come from or go to, locks, and partitions: a record knows its key, its version and its absolute expiry, and that is
enough to bring it home under any placement.
"""

from kvcache.cluster.snapshots.manifest import Manifest, Segment
from kvcache.cluster.snapshots.reader import SnapshotReader
from kvcache.cluster.snapshots.writer import SnapshotWriter

__all__ = ["Manifest", "Segment", "SnapshotReader", "SnapshotWriter"]
