"""Back-off and its log lines."""

from __future__ import annotations

import logging
from itertools import islice

from kvcache.cluster.outage import BACKOFF_SECONDS, Outage, delays
from kvcache_client.protocol.errors import ControlPlaneUnavailable

ERROR = ControlPlaneUnavailable("nobody there")


def test_waits_double_up_to_the_longest():
    first, longest = BACKOFF_SECONDS
    waits = list(islice(delays(lambda: 1.0), 10))
    assert waits[:3] == [first, 2 * first, 4 * first]
    assert waits[-1] == longest


def test_chance_shortens_a_wait_by_at_most_half():
    whole = list(islice(delays(lambda: 1.0), 8))
    least = list(islice(delays(lambda: 0.0), 8))
    assert [2 * wait for wait in least] == whole


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(caplog):
    caplog.set_level(logging.INFO)
    outage = Outage("no news", lambda: 1.0)
    waits = [outage.failed(ERROR) for _ in range(3)]
    outage.over()
    outage.over()
    assert waits == sorted(waits)
    assert [record.getMessage() for record in caplog.records] == [
        "no news: ControlPlaneUnavailable: nobody there; trying again until it answers",
        "coordination answers again after 3 failed attempts",
    ]


def test_after_a_success_the_waits_begin_anew():
    outage = Outage("no news", lambda: 1.0)
    first, _ = outage.failed(ERROR), outage.failed(ERROR)
    outage.over()
    assert outage.failed(ERROR) == first
    assert repr(outage) == "<Outage 'no news' failures=1>"
