"""The doctor: what is wrong with a cluster, or soon will be, and what to do about it.

``gathering`` asks the nodes, ``facts`` is what came of it, ``members``, ``machines`` and ``coordination`` hold the checks as pure
functions of the facts, ``table`` lists them all.
"""

__all__: list[str] = []
