"""How values and tables look."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from kvcache.commands.output import print_json, print_table, print_value, to_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain text", b"plain text\n"),
        ("grüße \U0001f44b", "grüße \U0001f44b\n".encode()),
        (b"\x00\xff", b"\x00\xff"),
        (7, b"7\n"),
        (None, b"null\n"),
        (True, b"true\n"),
        ({"a": [1, 2.5, None]}, b'{"a": [1, 2.5, null]}\n'),
        ((1, {3, 2}), b"[1, [2, 3]]\n"),
        (datetime(2024, 2, 29, 12, tzinfo=UTC), b'"2024-02-29T12:00:00+00:00"\n'),
        ([date(2024, 2, 29), time(1, 2)], b'["2024-02-29", "01:02:00"]\n'),
        ({(1, 2): Decimal("1.50")}, b'{"[1, 2]": "1.50"}\n'),
        ({UUID(int=0): timedelta(1)}, b'{"\\"00000000-0000-0000-0000-000000000000\\"": "1 day, 0:00:00"}\n'),
    ],
)
def test_text_and_bytes_are_printed_as_they_are_and_the_rest_as_json(capfdbinary, value, text):
    print_value(value)
    assert capfdbinary.readouterr().out == text


def test_json_has_a_form_for_bytes_and_for_keys_that_are_no_text():
    assert json.loads(to_json({1: b"\xff", "a": [b"x"], b"k": None})) == {
        "1": {"base64": "/w=="},
        "a": [{"base64": "eA=="}],
        '{"base64": "aw=="}': None,
    }


def test_json_is_one_line(capsys):
    print_json({"a": "line\nbreak", "b": "ü"})
    assert capsys.readouterr().out == '{"a": "line\\nbreak", "b": "ü"}\n'


def test_a_table_in_a_pipe_is_not_folded(capsys):
    print_table(("name", "count"), [("x" * 90, 1), ("short", 12345), (None, None)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "x" * 90 in lines[2]
    assert lines[4].split() == ["-", "-"]
    assert lines[2].rstrip().endswith("    1")


def test_an_empty_table_is_only_its_head(capsys):
    print_table(("name",), [])
    assert "name" in capsys.readouterr().out
