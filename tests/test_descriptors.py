"""How many connections fit into the descriptors that the system grants."""

import resource

import pytest

from kvcache.descriptors import room_for_connections


@pytest.fixture
def limits(monkeypatch):
    held = {"limits": (0, 0)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: held["limits"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: held.update(limits=wanted))
    return held


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "then"),
    [
        (20_000, 20_000, 10_000, 10_000, 20_000),
        (1024, 20_000, 10_000, 10_000, 10_064),
        (1024, 4096, 10_000, 4032, 4096),
        (1024, resource.RLIM_INFINITY, 10_000, 10_000, 10_064),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 10_000, 10_000, resource.RLIM_INFINITY),
        (32, 32, 10, 1, 32),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes_and_some_are_spared(limits, soft, hard, wanted, room, then, caplog):
    limits["limits"] = (soft, hard)
    assert room_for_connections(wanted) == room
    assert limits["limits"][0] == then
    assert bool(caplog.records) == (room < wanted)
