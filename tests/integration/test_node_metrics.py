"""What a node exports while it works: every metric is explained, and every law in its explanation holds."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from polling import wait_until
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families as parse

from kvcache.transport.metric_table import METRICS, Kind, Metric
from kvcache_client import Client

NAME = re.compile(r"sum\((?P<summed>[a-z_.]+)\)|(?P<single>[a-z_]+(?:\.[a-z_]+)?)")
STANDARD = ("process_", "kvcache_node")
LAWS = sorted({(row.place[0], row.law) for row in METRICS.values() if row.law})


def scrape(address: str) -> dict[str, Family]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return {family.name: family for family in parse(answer.read().decode())}


def holds(law: str, section: str, families: dict[str, Family], known: dict[str, float]) -> bool:
    """Compute a law from a scrape; ``known`` has what is not exported."""

    def value(match: re.Match[str]) -> str:
        name = match["summed"] or match["single"]
        if name in known:
            return repr(known[name])
        row = METRICS[tuple(name.split(".")) if "." in name else (section, name)]
        kept = "_count" if row.kind is Kind.HISTOGRAM else ""
        samples = [
            it.value for it in families[row.name].samples if it.name.endswith(kept) and not it.name.endswith("_created")
        ]
        assert len(samples) == 1 or match["summed"], name
        return repr(sum(samples))

    left, relation, right = re.split(r"(<=|=)", NAME.sub(value, law), maxsplit=1)
    sides = (total(left), total(right))
    return sides[0] <= sides[1] if relation == "<=" else sides[0] == sides[1]


def total(side: str) -> float:
    """Add up a side of a law: numbers with + and - between them."""
    return sum(float(number) for number in re.findall(r"[+-]?[0-9.]+(?:e[+-]?[0-9]+)?", side.replace(" ", "")))


class Load:
    """A client that does a little of everything until it is told to stop, and counts its reads."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.reads = 0
        self.rounds = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        with Client([self.address], timeout=5.0) as cache:
            while not self._stop.is_set():
                cache.set_many({f"metrics:{number}": "x" * number for number in range(50)})
                cache.set("metrics:brief", 1, ttl=0.001)
                cache.delete("metrics:7")
                cache.incr("metrics:count", initial=0)
                for number in range(20):
                    cache.get(f"metrics:{number}")
                cache.get_many([f"metrics:{number}" for number in range(40, 60)])
                self.reads += 41  # an incr looks first
                self.rounds += 1

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def busy(node_process) -> Iterator[tuple[str, Load]]:
    """A node of this module's own, under load."""
    with Load(node_process.address) as load:
        wait_until(lambda: load.rounds > 3)
        yield node_process.address, load


@pytest.fixture(scope="module")
def rested(busy) -> tuple[dict[str, Family], Load]:
    """What it exports when the load has ended."""
    address, load = busy
    load.stop()
    return scrape(address), load


@pytest.mark.parametrize(("section", "law"), [pair for pair in LAWS if "gets" not in pair[1]])
def test_every_law_holds_at_every_moment_under_load(busy, section, law):
    address, load = busy
    for _ in range(3):
        rounds = load.rounds
        assert holds(law, section, scrape(address), {})
        wait_until(lambda rounds=rounds: load.rounds > rounds)


def test_the_node_counts_the_reads_that_the_client_has_made(rested):
    families, load = rested
    assert holds("gets = hits + misses", "store", families, {"gets": load.reads})
    assert not holds("gets = hits + misses", "store", families, {"gets": load.reads + 1})


def test_everything_that_is_exported_is_described_and_everything_described_is_exported(rested):
    families, _ = rested
    described = {row.name for row in METRICS.values()}
    assert {name for name in families if not name.startswith(STANDARD)} - described == set()
    assert described - set(families) == set()


def test_the_names_and_units_are_those_of_prometheus(rested):
    families, _ = rested
    for row in METRICS.values():
        family = families[row.name]
        assert family.type == row.kind.value
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent|total|count|sum|bucket)$", row.name)
        if row.kind is Kind.COUNTER:
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)


def test_the_histograms_have_each_verb_that_was_used(rested):
    families, _ = rested
    counts = {
        sample.labels["verb"]: sample.value
        for sample in families["kvcache_requests_handling_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert {"GET", "GET_MANY", "PUT_MANY", "INCR"} <= set(counts)
    assert all(count > 0 for count in counts.values())
    served = {
        sample.labels["operation"]: sample.value
        for sample in families["kvcache_http_serving_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert served["metrics"] > 0
    (lag,) = [s.value for s in families["kvcache_loop_lag_seconds"].samples if s.name.endswith("_count")]
    assert lag > 0


def test_a_law_that_is_broken_is_noticed():
    row = Metric(("store", "hits"), Kind.COUNTER, "Reads.", "hits <= misses")
    assert row.help == "Reads. hits <= misses."
    families = {f"kvcache_store_{name}": Family(f"kvcache_store_{name}", "", "counter") for name in ("hits", "misses")}
    for name, family in families.items():
        family.add_sample(name, {}, 3 if name.endswith("hits") else 2)
    assert not holds(row.law, "store", families, {})
