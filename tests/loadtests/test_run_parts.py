"""The parts of a run that need no cluster: SLOs, shapes, records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.run.recording import FAILED, IN_DOUBT, Recording
from loadtests.run.shapes import SHAPES
from loadtests.run.slo import judge, parse_slo


def _recording() -> Recording:
    recording = Recording()
    for number in range(1000):
        recording.note(100 + number % 10, "get", f"n{number % 3}", "hit", 0.001 if number < 985 else 0.050)
    for number in range(10):
        recording.note(100 + number, "set", "n1", FAILED if number == 0 else "ok", 0.002)
    recording.facts.update(lost=2, checked=1000)
    return recording


@pytest.mark.parametrize(
    ("slo", "held"),
    [
        ("get.p50<2ms", True),
        ("get.p99<20ms", False),
        ("set.p99<=3ms", True),
        ("max<0.06s", True),
        ("failed<0.1%", True),
        ("set.failed<5%", False),
        ("set.failed=1", True),
        ("get.failed=0", True),
        ("lost=0", False),
        ("lost=2", True),
        ("old=0", True),
        ("get.hit_ratio>=100%", True),
        ("rate>100/s", True),
        ("get.rate>101", False),
        ("delete.p99<1s", False),  # nothing was measured, so nothing was shown
    ],
)
def test_a_term_is_judged_by_what_was_recorded(slo: str, held: bool) -> None:
    (judgement,) = judge(parse_slo(slo), _recording(), 10.0)
    assert judgement.held is held
    assert str(judgement).startswith(f"{slo}: {'held' if held else 'FAILED'}")


@pytest.mark.parametrize("fact", ["unreadable", "unchecked", "workers lost"])
def test_that_nothing_is_lost_old_or_wrong_is_not_held_when_not_all_was_looked_at(fact: str) -> None:
    recording = _recording()
    recording.facts.update({"lost": -2, fact: 1500})
    for judgement in judge(parse_slo("lost=0,old=0,wrong=0"), recording, 10.0):
        assert (judgement.value, judgement.held) == (0, False)
        assert str(judgement).startswith(f"{judgement.term.text}: FAILED, 0, but 1,500 ")
    assert judge(parse_slo("get.p50<2ms"), recording, 10.0)[0].held


def test_that_nothing_is_lost_is_not_held_when_nothing_was_looked_for() -> None:
    recording = _recording()
    recording.facts.clear()
    held = {it.term.figure: it.held for it in judge(parse_slo("lost=0,old=0,wrong=0"), recording, 10.0)}
    assert held == {"lost": False, "old": True, "wrong": True}  # the other two were judged at every read


def test_an_slo_has_any_number_of_terms() -> None:
    assert parse_slo("") == ()
    assert [term.text for term in parse_slo("get.p99<20ms, failed<0.1% ,lost=0")] == [
        "get.p99<20ms",
        "failed<0.1%",
        "lost=0",
    ]


@pytest.mark.parametrize(
    ("term", "what"),
    [
        ("p99", "is not FIGURE"),
        ("p99<", "is not FIGURE"),
        ("p98<5ms", "no figure 'p98'"),
        ("get.lost=0", "of the whole run"),
        ("p99<5", "can't be in a number without a unit"),
        ("p99<5%", "can't be in %"),
        ("lost<1ms", "can't be in ms"),
        ("failed<0", "can never be held"),
        ("failed>100%", "can never be held"),
        ("p99<0ms", "can never be held"),
        ("hit_ratio>101%", "can never be held"),
        ("hit_ratio>1", "can never be held"),
        ("get.hit_ratio>=1.5", "can never be held"),
        ("hit_ratio=2", "can never be held"),
        ("misses=101%", "can never be held"),
    ],
)
def test_an_impossible_term_is_refused_by_its_name(term: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        parse_slo(f"get.p50<1s,{term}")
    assert repr(term) in str(caught.value)


@pytest.mark.parametrize("term", ["failed<200%", "failed<=100%", "hit_ratio>=1", "hit_ratio<=5", "rate>=0", "misses>5"])
def test_a_term_that_can_be_held_is_taken_even_where_it_always_is(term: str) -> None:
    assert parse_slo(term)[0].text == term


@given(st.sampled_from(sorted(SHAPES)), st.floats(0, 1))
def test_a_shape_stays_between_nothing_and_full_load(name: str, gone: float) -> None:
    assert 0 <= SHAPES[name](gone) <= 1


def test_each_shape_reaches_full_load_where_it_says() -> None:
    assert SHAPES["ramp"](1.0) == 1
    assert [round(SHAPES["steps"](gone), 1) for gone in (0, 0.21, 0.45, 0.65, 0.99)] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [SHAPES["spike"](gone) for gone in (0.1, 0.5, 0.9)] == [0.2, 1.0, 0.2]
    assert SHAPES["day"](16 / 24) == pytest.approx(1.0)
    assert SHAPES["day"](4 / 24) == pytest.approx(0.1)


_ANSWERS = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from(["get", "set"]),
        st.sampled_from(["n1", "n2", ""]),
        st.sampled_from(["hit", "miss", FAILED, IN_DOUBT]),
        st.floats(1e-6, 100),
    ),
    max_size=60,
)


@given(_ANSWERS, st.integers(0, 60))
def test_the_records_of_two_processes_add_up_to_what_one_would_have_recorded(answers: Any, cut: int) -> None:
    whole, one, two = Recording(), Recording(), Recording()
    for at, answer in enumerate(answers):
        whole.note(*answer)
        (one if at < cut else two).note(*answer)
        (one if at < cut else two).reasons[answer[0], "expired"] += 1
        whole.reasons[answer[0], "expired"] += 1
    total = Recording()
    total.add(Recording.from_bytes(one.take().to_bytes()))
    total.add(Recording.from_bytes(two.to_bytes()))
    assert not one.cells
    assert {place: (it.count, it.buckets, it.longest) for place, it in total.cells.items()} == {
        place: (it.count, it.buckets, it.longest) for place, it in whole.cells.items()
    }
    assert total.reasons == whole.reasons
    for fraction in (0.0, 0.5, 0.99, 1.0):
        assert total.latency().percentile(fraction) == whole.latency().percentile(fraction)
