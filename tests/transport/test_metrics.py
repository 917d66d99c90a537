"""The node's counters in Prometheus' words."""

from dataclasses import fields

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from kvcache.store.statistics import StoreStatistics
from kvcache.transport.counters import StreamCounters
from kvcache.transport.http.limits import HttpCounters
from kvcache.transport.metric_table import METRICS
from kvcache.transport.metrics import NodeMetrics

STATISTICS = {
    "node": {"id": "n1", "cluster": 'with "quotes"\n', "uptime_seconds": 12.5, "ready": True},
    "store": {"records": 3, "hits": 10, "misses": 4},
    "stream": {"verbs": {"GET": 7, "PUT_MANY": 1}, "odd name!": 1},
    "topology": {"epoch": 9, "members": ["n1"]},
    "http": {"responses": {"2xx": 5, "5xx": 1}},
}


def scrape(statistics, accept=""):
    _, text = NodeMetrics(lambda: statistics).render(accept)
    return {family.name: family for family in parse(text.decode())}


def value(families, name):
    (sample,) = families[name].samples
    return sample.value


def test_a_described_number_has_its_type_and_its_equation():
    families = scrape(STATISTICS)
    hits = families["kvcache_store_hits"]
    assert (hits.type, hits.samples[0].name, hits.samples[0].value) == ("counter", "kvcache_store_hits_total", 10)
    assert "gets = hits + misses" in hits.documentation
    assert families["kvcache_store_records"].type == "gauge"


def test_a_number_that_nobody_described_is_not_lost():
    families = scrape(STATISTICS)
    assert value(families, "kvcache_stream_verbs_GET") == 7
    assert value(families, "kvcache_stream_odd_name_") == 1
    assert value(families, "kvcache_node_uptime_seconds") == 12.5
    assert value(families, "kvcache_node_ready") == 1
    assert "topology_members" not in str(list(families))


def test_text_about_the_node_becomes_labels():
    (sample,) = scrape(STATISTICS)["kvcache_node_info"].samples
    assert sample.labels == {"id": "n1", "cluster": 'with "quotes"\n'}


def test_a_table_of_numbers_becomes_one_metric_with_a_label():
    samples = scrape(STATISTICS)["kvcache_http_responses"].samples
    assert {sample.labels["status"]: sample.value for sample in samples} == {"2xx": 5, "5xx": 1}


def test_a_histogram_is_told_with_its_buckets_by_label():
    times = {"count": 3, "sum": 1.5, "buckets": {"0.1": 1, "1": 2, "+Inf": 3}}
    statistics = {"requests": {"handling_seconds": {"GET": times}}, "loop": {"lag_seconds": times}}
    families = scrape(statistics)
    handling, lag = families["kvcache_requests_handling_seconds"], families["kvcache_loop_lag_seconds"]
    assert handling.type == lag.type == "histogram"
    assert [(s.labels.get("verb"), s.labels.get("le"), s.value) for s in handling.samples] == [
        ("GET", "0.1", 1),
        ("GET", "1", 2),
        ("GET", "+Inf", 3),
        ("GET", None, 3),
        ("GET", None, 1.5),
    ]
    assert [sample.labels for sample in lag.samples][:2] == [{"le": "0.1"}, {"le": "1"}]


def test_the_process_reports_its_memory():
    assert value(scrape({}), "process_resident_memory_bytes") > 1_000_000


def test_every_scrape_reads_anew():
    statistics = {"store": {"hits": 1}}
    metrics = NodeMetrics(lambda: statistics)
    first = metrics.render("")[1]
    statistics["store"]["hits"] = 2
    assert b"kvcache_store_hits_total 1.0" in first
    assert b"kvcache_store_hits_total 2.0" in metrics.render("")[1]


def test_openmetrics_is_spoken_to_those_who_prefer_it():
    content_type, text = NodeMetrics(lambda: STATISTICS).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert "kvcache_store_hits" in [family.name for family in openmetrics.text_string_to_metric_families(text.decode())]


@pytest.mark.parametrize("place", METRICS, ids=".".join)
def test_every_metric_is_explained_under_a_name_of_its_own(place):
    metric = METRICS[place]
    assert metric.help.endswith(".")
    assert metric.name.startswith("kvcache_")
    assert not metric.name.endswith("_total")


@pytest.mark.parametrize(
    ("section", "counted"), [("store", StoreStatistics), ("stream", StreamCounters), ("http", HttpCounters)]
)
def test_every_counter_that_a_part_keeps_is_described(section, counted):
    described = {place[1] for place in METRICS if place[0] == section}
    assert {field.name for field in fields(counted)} <= described
