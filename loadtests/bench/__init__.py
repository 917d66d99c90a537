"""kvcache beside its peers, in one run on one machine: ``python -m loadtests.bench``.

Absolute times mean nothing on a shared machine, so every figure is read as a ratio within this one run. The rules are the
same for every contestant:

- All contestants of a work take turns within each round, and a different one begins each round; the figure is the median of
  the rounds, so that a slow minute of the machine hits all of them alike.
- A turn begins with a warm-up (a fifth of its length, at least 0.1 s) and a garbage collection that are not counted.
- Same keys (10,000 of 16 bytes, in one shuffled order), same values (100 bytes), every get a hit; clients stay open between
  turns. A miss or an error ends the work without a figure.
- Asyncio contestants run on the same event loop (uvloop; ``--loop asyncio`` to compare), as tasks that each await one call
  after another. What each client is given beyond its defaults is in ``loadtests.peers``.
- The system decides which core runs what, as it does for users. ``--apart`` puts the load on the first core and every server
  on the second: on a virtual machine that measures, above all with one caller, how long the other core takes to wake up.
- Servers are on loopback, without persistence, one thread each.
- A server's own capacity is measured with bytes built in advance, one generator for all, and counted per second of the
  server's time on its core (schedstat): if the generator or a neighbour holds a server up, that is not held against it.
- Memory is resident memory (VmRSS) after writing, less that of the empty process, one fresh process each.
"""

__all__: list[str] = []
