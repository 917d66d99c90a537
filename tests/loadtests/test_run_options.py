"""The options of a run: on the command line, in the web form, and what makes no sense."""

from __future__ import annotations

import argparse
import re
from types import SimpleNamespace

import pytest

from loadtests import CannotRun
from loadtests.run.options import (
    add_options,
    check_cluster_options,
    options_for,
    options_of,
    settings_of,
    typed_options,
)


def _options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--host", "--run-time", "--users"):
        parser.add_argument(name)
    add_options(parser)
    parsed = parser.parse_args(words)
    parsed.num_users = parsed.users
    return parsed


def test_options_have_defaults_that_work_and_can_be_told() -> None:
    parsed = _options("--keys", "500", "--value-sizes", "64:1,1000-2000:2", "--ttls", "none:1,5:1", "--rate", "100")
    options = options_of(parsed)
    assert (options.keys, options.rate, options.host) == (500, 100.0, "kvcache://127.0.0.1:7700")
    assert settings_of(options, parsed)["arrivals"] == "open, 100 operations/s, shape steady"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--keys", "0"),
        ("--zipf", "-1"),
        ("--zipf", "nan"),
        ("--value-sizes", "none"),
        ("--value-sizes", "99999999999"),
        ("--ttls", "soon"),
        ("--batch", "0"),
        ("--rate", "-5"),
        ("--cache-timeout", "0"),
        ("--slo", "p98<1ms"),
    ],
)
def test_a_bad_option_is_named_with_its_value(option: str, value: str) -> None:
    with pytest.raises(CannotRun) as caught:
        options_of(_options(option, value))
    assert option in str(caught.value)
    assert value in str(caught.value)


def test_an_slo_may_name_the_verbs_that_the_users_of_the_run_call_and_no_others() -> None:
    reader, tracer = SimpleNamespace(mix={"get": 0.9, "delete": 0.1}), SimpleNamespace(mix={"get": 1}, also={"set"})
    slo = _options("--slo", "set.p99<20ms,get.failed=0,lost=0")
    assert len(options_for(slo, [reader, tracer]).slo) == 3
    with pytest.raises(
        CannotRun, match=r"--slo: 'set.p99<20ms': no user of this run calls 'set'; they call: get, delete"
    ):
        options_for(slo, [reader])
    with pytest.raises(CannotRun, match="no user of this run calls 'gte'"):
        options_for(_options("--slo", "gte.p99<20ms"), [reader, tracer, object()])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--nodes 0", "--nodes 0: it must be a whole number from 1 to 64"),
        ("--nodes 65", "--nodes 65: it must be a whole number from 1 to 64"),
        ("--replicas 0", "--replicas 0: it must be a whole number from 1 to 8"),
        ("--nodes 20 --replicas 9", "--replicas 9: it must be a whole number from 1 to 8"),
        ("--nodes 2 --replicas 5", "--nodes 2 --replicas 5: it must be a whole number from 1 to 2"),
        ("--node-memory much", "--node-memory: 'much' is not a size"),
        ("--node-memory 1", "--node-memory: "),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_before_it_is_started(words: str, what: str) -> None:
    with pytest.raises(CannotRun) as caught:
        check_cluster_options(_options(*words.split()))
    assert str(caught.value).startswith(what)
    check_cluster_options(_options("--nodes", "2", "--replicas", "2", "--node-memory", "64MiB"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cache", "redis3000"),
        ("keys", "1.5"),
        ("keys", ""),
        ("seed", "x"),
        ("zipf", "much"),
        ("value_sizes", "huge"),
        ("slo", "?"),
    ],
)
def test_what_the_web_form_sends_is_checked_like_the_command_line(name: str, text: str) -> None:
    option = "--" + name.replace("_", "-")
    with pytest.raises(CannotRun, match=rf"^{option}.*{re.escape(repr(text))}"):
        options_of(typed_options(_options(), {name: text, "no_option": "1"}, None))


def test_an_empty_run_time_of_the_form_is_none_whatever_the_run_before_had() -> None:
    parsed = _options("--shape", "spike", "--run-time", "60")
    with pytest.raises(CannotRun, match="--shape ramp needs --run-time"):
        options_of(typed_options(parsed, {"shape": "ramp", "run_time": ""}, None))
    options = options_of(typed_options(parsed, {"shape": "ramp", "run_time": "1m"}, 60))
    assert (options.shape, options.run_time) == ("ramp", 60)
    assert parsed.shape == "spike"  # nothing is taken before it was checked


def test_a_shape_without_an_end_is_refused() -> None:
    with pytest.raises(CannotRun, match="--shape ramp needs --run-time"):
        options_of(_options("--shape", "ramp"))
    assert options_of(_options("--shape", "ramp", "--run-time", "60")).run_time == 60
