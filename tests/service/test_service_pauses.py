"""A node notices that it stood still before it answers anything, and is careful until it knows what it missed."""

import pytest

from kvcache_client.protocol.errors import NotReady
from kvcache_client.protocol.verbs import Status, Verb


def test_a_pause_is_noticed_before_the_next_answer(core):
    seen = []
    core.service.watch_for_pauses(100, seen.append)
    core.at(100)
    assert seen == []
    core.now_ms += 101
    core.service.tick()
    assert seen == [101]
    core.service.tick()
    assert seen == [101]


def test_what_is_loading_takes_writes_and_answers_no_reads_until_all_is_there(core, record):
    key = core.key(mine=True)
    core.service.begin_loading(range(16384))
    assert core.service.loading
    assert not any(core.service.readable)
    assert core.put(key, record(0)) == (Status.OK,)
    core.service.loaded_all()
    assert core.ask(Verb.GET, key)[0] == Status.OK
    assert not core.service.loading


def test_before_it_knows_by_which_document_the_others_go_it_shows_nothing(core, record):
    key = core.key(mine=True)
    core.put(key, record(0))
    core.service.begin_loading(range(16384))
    assert core.ask(Verb.PEEK, key) == (Status.OK, record(0))
    core.service.uninformed = True
    with pytest.raises(NotReady):
        core.ask(Verb.PEEK, key)
    core.service.loaded_all()
    assert core.ask(Verb.PEEK, key) == (Status.OK, record(0))


def test_a_newer_topology_does_not_make_it_complete(core):
    core.service.begin_loading([5])
    core.join(2)
    assert not core.service.is_complete(5)
    assert core.service.is_complete(6)
