"""Whom a master knows to be in its run: with a made-up runner, whose workers come, die and answer as told."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from loadtests.run.messages import CONCLUDE
from loadtests.run.workers import Workers


@dataclass
class Client:
    state: str = "running"


class Master:
    """Locust's master, as far as the workers of a run are concerned."""

    def __init__(self) -> None:
        self.clients = {"a": Client(), "b": Client()}
        self.told: list[str] = []
        self.workers = Workers(self, self.told.append)
        self.answering: set[str] = set()

    def send_message(self, message: str) -> None:
        assert message == CONCLUDE
        for worker in self.answering:
            self.workers.concluded(worker)

    def get_worker_index(self, worker: str) -> int:
        return ord(worker) - ord("a")


@pytest.fixture
def master() -> Master:
    made = Master()
    made.workers.begin()
    return made


def test_all_who_answer_are_heard(master: Master) -> None:
    master.answering = {"a", "b"}
    master.workers.conclude(60)
    assert (master.told, master.workers.unheard) == ([], 0)


def test_that_all_have_died_is_told_though_there_is_nobody_left_to_wait_for(master: Master) -> None:
    for client in master.clients.values():
        client.state = "missing"
    master.workers.conclude(60)
    assert sorted(master.told) == [f"worker {index} was lost in the middle of the run" for index in (0, 1)]
    assert master.workers.unheard == 2


def test_one_that_is_there_and_silent_is_told_of_once(master: Master) -> None:
    master.answering = {"a"}
    master.workers.conclude(0)
    master.workers.look()
    assert (master.told, master.workers.unheard) == (["worker 1 did not give its last record"], 1)


def test_one_that_comes_back_from_a_silence_is_heard_after_all(master: Master) -> None:
    master.clients["b"].state = "missing"
    master.workers.look()
    master.clients["b"].state = "running"
    master.answering = {"a", "b"}
    master.workers.conclude(60)
    assert (master.told, master.workers.unheard) == (["worker 1 was lost in the middle of the run"], 0)


def test_one_that_quits_without_a_word_is_lost_and_one_with_its_record_was_stopped(master: Master) -> None:
    master.workers.concluded("a")
    master.clients.clear()
    master.workers.look()
    assert master.told == [
        "worker 0 was stopped in the middle of the run",
        "worker 1 was lost in the middle of the run",
    ]
    assert master.workers.unheard == 1


def test_a_run_does_not_know_of_those_that_were_gone_before_it(master: Master) -> None:
    master.clients["b"].state = "missing"
    master.workers.begin()
    master.clients["c"] = Client()
    master.workers.joined("c")
    master.workers.joined("a")
    master.answering = {"a", "c"}
    master.workers.conclude(60)
    assert (master.told, master.workers.unheard) == (["worker 2 joined in the middle of the run"], 0)
