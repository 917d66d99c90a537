"""The journal: each event once in a table, said with its fields, and no more often than the disk can bear."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from string import Formatter

import pytest

import kvcache
from kvcache.event_table import EVENTS
from kvcache.events import FIELD_CHARS, Journal, shown_key

HERE = Path(kvcache.__file__).parent
CALLS = [
    (path.relative_to(HERE).as_posix(), node)
    for path in sorted(HERE.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "journal.say"
]
SAID = {ast.literal_eval(call.args[0]) for _, call in CALLS if isinstance(call.args[0], ast.Constant)}


def fields_of(event):
    return {name for _, name, _, _ in Formatter().parse(event.text) if name}


@pytest.mark.parametrize(("path", "call"), CALLS, ids=lambda it: it if isinstance(it, str) else ast.unparse(it)[12:50])
def test_whoever_says_an_event_gives_the_fields_that_its_sentence_shows(path, call):
    if not isinstance(call.args[0], ast.Constant):
        assert path == "node.py"  # what an epoch brought; see test_topology_events
        return
    given = {keyword.arg for keyword in call.keywords} - {"error_info", "at"}
    assert fields_of(EVENTS[call.args[0].value]) <= given


def test_no_row_of_the_table_is_said_by_nobody():
    text = (HERE / "topology_events.py").read_text()
    assert {name for name in EVENTS if name not in SAID and f'"{name}"' not in text} == set()


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.name)
def test_a_row_has_a_name_and_a_sentence_of_its_own(event):
    assert event.name.isidentifier()
    assert [other.name for other in EVENTS.values() if other.text == event.text] == [event.name]
    assert not event.advice or event.advice.endswith(".")
    assert event.advice or event.level < logging.ERROR, "whoever reads an error must know what to do"


@pytest.fixture
def times():
    return [100.0]


@pytest.fixture
def journal(times):
    return Journal(lambda: times[0], lambda: 1_790_000_000.0 + times[0])


def test_an_event_is_counted_logged_and_remembered(journal, caplog):
    journal.say("member_down", member="n2", epoch=7)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("kvcache.cluster", logging.WARNING, "n2 is down")
    assert (record.event, record.fields) == ("member_down", {"member": "n2", "epoch": 7})
    plain = journal.as_dict()
    assert plain["said"] == {"member_down": 1}
    (recent,) = plain["recent"]
    assert {key: recent[key] for key in ("at", "level", "event", "text")} == {
        "at": 1_790_000_100.0,
        "level": "warning",
        "event": "member_down",
        "text": "n2 is down",
    }


def test_what_peers_can_cause_is_said_once_a_second_and_tells_how_much_was_left_out(journal, times, caplog):
    for _ in range(1000):
        journal.say("connection_foreign", byte="0x16")
    times[0] += 1.0
    journal.say("connection_foreign", byte="0x2a")
    assert [record.fields for record in caplog.records] == [{"byte": "0x16"}, {"byte": "0x2a", "left_out": 999}]
    assert journal.counts["connection_foreign"] == 1001


def test_one_flood_does_not_silence_another_event(journal, caplog):
    journal.say("connection_foreign", byte="0x16")
    journal.say("connection_refused", why="3 are open")
    assert len(caplog.records) == 2


def test_recent_events_are_bounded_and_leave_out_what_is_only_for_debugging(journal):
    for number in range(100):
        journal.say("topology_adopted", epoch=number, document="-")
        journal.say("member_up", member=f"n{number}")
    recent = journal.as_dict()["recent"]
    assert len(recent) == 40
    assert {event["event"] for event in recent} == {"member_up"}
    assert recent[-1]["text"] == "n99 is up"
    assert len({event["id"] for event in recent}) == 40


@pytest.mark.parametrize("text", ["x\nERROR forged", "\x1b[2J", "\u2028", "a" * 10_000])
def test_a_field_is_one_line_of_bounded_text(journal, caplog, text):
    journal.say("connection_overdue", reason=text)
    message = caplog.records[0].getMessage()
    assert message.isprintable()
    assert len(message) < FIELD_CHARS + 100


def test_braces_in_a_field_are_just_braces(journal, caplog):
    caplog.set_level(logging.INFO)
    journal.say("member_up", member="{0.__class__}%s")
    assert caplog.records[0].getMessage() == "{0.__class__}%s is up"


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"user:1", "user:1"),
        (b"a\nb\xff", "a\\nb\\xff"),
        (b"k" * 1024, "k" * 48 + "... (1024 bytes)"),
        (5, "a int"),
    ],
)
def test_a_key_is_escaped_and_cut(key, shown):
    assert shown_key(key) == shown
