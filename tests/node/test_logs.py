"""The lines of the log, and how much of it there is."""

from __future__ import annotations

import io
import json
import logging

import pytest

from kvcache.events import journal
from kvcache.logs import LEVELS, configure_log, follow_signals, step_level


@pytest.fixture
def written():
    """A log that goes to a text."""
    stream = io.StringIO()

    def configure(level="info", form="text"):
        configure_log(level, form, "n1", stream)
        return stream

    return configure


def test_a_line_for_people(written):
    stream = written()
    journal.say("stood_still", ms=900)
    time, rest = stream.getvalue().split(" ", 1)
    assert len(time) == len("2026-01-31T12:00:00.123Z")
    assert rest == "WARNING n1 stood_still: this process stood still for 900 ms; pulling what it missed\n"


def test_a_line_for_machines(written):
    stream = written(form="json")
    journal.say("request_bug", verb="GET", error_info=ZeroDivisionError("a bug"))
    logging.getLogger("elsewhere").warning("with\nlines and %s", "arguments")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert {key: first[key] for key in ("level", "node", "event", "logger", "message", "fields")} == {
        "level": "error",
        "node": "n1",
        "event": "request_bug",
        "logger": "kvcache.transport",
        "message": "bug in GET",
        "fields": {"verb": "GET"},
    }
    assert first["traceback"].endswith("ZeroDivisionError: a bug")
    assert (second["event"], second["message"]) == ("log", "with\nlines and arguments")


def test_nobody_can_write_a_line_of_his_own(written):
    stream = written()
    logging.getLogger("elsewhere").warning("name\n2026-01-31T12:00:00.000Z ERROR n1 forged: %s", "\r\x1b[31m")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_what_was_left_out_is_told(written):
    stream = written()
    journal.say("connection_foreign", at=1.0, byte="0x16")
    journal.say("connection_foreign", at=1.1, byte="0x16")
    journal.say("connection_foreign", at=2.1, byte="0x17")
    assert stream.getvalue().splitlines()[1].endswith("0x17: neither a message nor HTTP (and 1 more since)")


def test_two_signals_step_through_the_levels_and_stop_at_the_ends(written):
    stream = written()
    steps = {}
    follow_signals(lambda number, work, *arguments: steps.update({number.name: (work, arguments)}))
    work, arguments = steps["SIGUSR1"]
    assert [work(*arguments) for _ in range(2)] == ["debug", "debug"]
    work, arguments = steps["SIGUSR2"]
    assert [work(*arguments) for _ in range(4)] == ["info", "warning", "error", "error"]
    assert "log_level_changed: the log level is debug now, by SIGUSR1" in stream.getvalue()


def test_a_second_log_takes_the_place_of_the_first_and_of_no_other(written):
    others = list(logging.getLogger().handlers)
    stream = written()
    written(form="json")
    assert len(logging.getLogger().handlers) == len(others) + 1
    journal.say("stood_still", ms=1)
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_can_be_set(written, level):
    written(level)
    assert step_level(0, "a test") == level
