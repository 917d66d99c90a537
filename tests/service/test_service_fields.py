"""Every verb with too few fields, too many, and fields of every wrong type: an error of ours, and nothing changed.

Driven by the table of verbs, so a verb that comes later is tested too.
"""

import itertools

import pytest

from kvcache_client.protocol.errors import HelloRequired, KvCacheError, MalformedFrame
from kvcache_client.protocol.record import NEVER
from kvcache_client.protocol.verbs import ABSENT, PROTOCOL_VERSION, VERBS, Status, Verb
from kvcache_client.protocol.version import MAX_VERSION

DEEP = ()
for _ in range(1020):
    DEEP = (DEEP,)

WRONG = {
    "nil": None,
    "true": True,
    "float": 0.5,
    "nan": float("nan"),
    "list": (1, 2),
    "deep list": DEEP,
    "text": "text",
    "bytes": b"other",
    "negative": -1,
    "huge": MAX_VERSION,
}
RIGHT = {
    "protocol": PROTOCOL_VERSION,
    "cluster": "test",
    "role": 0,
    "nonce": b"",
    "proof": b"p" * 32,
    "name": "",
    "key": b"k",
    "key...": b"k",
    "epoch": 9,
    "condition": ABSENT,
    "owner": "n2",
    "delta": 1,
    "initial?": 1,
    "expiry_ms": NEVER,
    "session": "",
    "partition": 5,
    "partition...": 5,
    "after": b"",
    "whole": True,
    "document": b"{}",
    "fence": 3,
    "change": b"{}",
    "resource": "job",
    "token": "5f2a",
    "lease_ms": 1000,
    "doing": "ann: tests",
    "operation": 4711,
}


def fields_of(verb, record):
    """Return a request of ``verb`` that is right in all its fields."""
    fields = []
    for name in VERBS[verb].fields:
        fields += {"record": [record], "(key record)...": [b"k", record]}.get(name) or [RIGHT[name]]
    return fields


def outcome_of(core, verb, fields):
    """Return the reply, or the error of ours."""
    try:
        return core.ask(verb, *fields)
    except KvCacheError as error:
        return error


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_a_handler_that_takes_the_fields_of_the_table(core, record, verb):
    outcome = outcome_of(core, verb, fields_of(verb, record(0)))
    if verb == Verb.AUTH:  # whose place is before there is a service: the connection answers it
        assert isinstance(outcome, HelloRequired)
    else:
        assert outcome[0] in tuple(Status)


def test_there_is_no_handler_without_a_row(core):
    assert set(core.service.handlers) == set(VERBS)


# GET_MANY and PUT_MANY take any number of their groups; half a group is tested where they are.
FIXED = {verb: len(spec.fields) for verb, spec in VERBS.items() if not any(it.endswith("...") for it in spec.fields)}
WRONG_COUNTS = [
    (verb, count) for verb, right in FIXED.items() for count in (0, 1, 2, 3, 4, 5, 6, 7, 100) if count != right
]


@pytest.mark.parametrize(("verb", "count"), WRONG_COUNTS)
def test_another_number_of_fields_cannot_be_unpacked(core, record, verb, count):
    wrong = (fields_of(verb, record(0)) + [b"more"] * count)[:count]
    with pytest.raises(ValueError, match="unpack") as failure:  # which the connection tells from a bug by its words
        core.ask(verb, *wrong)
    assert not isinstance(failure.value, KvCacheError)
    assert len(core.store) == 0


def test_put_many_without_an_epoch_cannot_be_unpacked(core):
    with pytest.raises(ValueError, match="unpack"):
        core.ask(Verb.PUT_MANY)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb].fields], ids=lambda verb: verb.name)
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_field_meets_an_error_of_ours_or_is_harmless(core, record, verb, kind):
    right = fields_of(verb, record(0))
    for place in range(len(right)):
        fields = [*right[:place], WRONG[kind], *right[place + 1 :]]
        outcome = outcome_of(core, verb, fields)
        if isinstance(outcome, KvCacheError):
            assert outcome.code is not None
            assert 0 < len(str(outcome)) < 300
        else:
            assert outcome == () or outcome[0] in tuple(Status)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb].fields], ids=lambda verb: verb.name)
@pytest.mark.parametrize("kind", ["nil", "true", "float", "list", "deep list"])
def test_a_field_that_is_of_no_type_of_ours_changes_nothing(core, record, verb, kind):
    right = fields_of(verb, record(0))
    allowed = {"initial?": ("nil",), "whole": ("true",)}
    names = list(itertools.chain(*(["key", "record"] if "(" in name else [name] for name in VERBS[verb].fields)))
    for place, name in enumerate(names):
        if kind in allowed.get(name, ()):
            continue
        fields = [*right[:place], WRONG[kind], *right[place + 1 :]]
        if verb in (Verb.GET_MANY, Verb.PUT_MANY, Verb.RESTORE) and name in ("key...", "key", "record"):
            assert core.ask(verb, *fields)[1] >= 16
        else:
            with pytest.raises(KvCacheError) as refused:
                core.ask(verb, *fields)
            named = name in ("key", "record")  # these have an error of their own, and the connection goes on
            assert isinstance(refused.value, MalformedFrame) != named
    assert len(core.store) == 0
