"""LIMITS.md lists every limit of the port as the code has it, each with a test that goes over it; options set them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kvcache
from kvcache.options import NodeOptions
from kvcache.port_limits import LIMITS, port_limits
from kvcache_client.protocol.errors import InvalidOption

PAGE = Path(kvcache.__file__).with_name("LIMITS.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if re.match(r"\| \w+\.", line)]


def test_the_table_is_the_one_in_the_code() -> None:
    assert {name: float(value.replace(",", "")) for name, value, _, _ in ROWS} == LIMITS


@pytest.mark.parametrize(("limit", "test"), [(row[0], row[3]) for row in ROWS])
def test_every_limit_names_a_test_that_there_is(limit: str, test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (Path(__file__).parent / path).read_text(), re.MULTILINE), limit


def test_options_set_them() -> None:
    options = NodeOptions(limits=" stream.frame_seconds=2.5, http.batch_keys=7,", value_limit=1000)
    stream, http = port_limits(options, 99)
    assert (stream.frame_seconds, stream.connections, stream.value_limit) == (2.5, 99, 1000)
    assert (http.batch_keys, http.value_limit) == (7, 1000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "stream.frame_secs=5",
            "limits sets 'stream.frame_secs', which is no limit; did you mean 'stream.frame_seconds'",
        ),
        ("nonsense", "limits sets 'nonsense', which is no limit; there are stream.connections_per_address"),
        ("stream.connections=5", "limits sets 'stream.connections', which is no limit; did you mean"),
        ("http.batch_keys=1.5", "limits: http.batch_keys='1.5' is not a whole number"),
        ("http.head_seconds=soon", "limits: http.head_seconds='soon' is not a number"),
        ("http.head_seconds=0", "limits: http.head_seconds='0' must be over 0"),
        ("http.head_seconds=nan", "limits: http.head_seconds='nan' must be over 0"),
    ],
)
def test_what_is_no_limit_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        port_limits(NodeOptions(limits=text), 1)
    assert str(caught.value).startswith(said)
