"""Chaos: real clusters that are broken on purpose, under load, and judges that say whether a promise was broken with them.

::

    LoadProcess (a child) --reads, writes--> ChaosCluster (node processes, a Valkey) <--kill, stop, cut-- a scenario
          |                                        |
       History                              FinalState: every replica, asked directly
          `---------------> checkers <-------------'
          `---------------> figures

A scenario is a coroutine over ``Run`` (``scenarios``); ``runner.play`` does the rest. Never here: a promise that is stated
nowhere but in a test. A judge is trusted only because each one has caught a bug that was planted for it.
"""
