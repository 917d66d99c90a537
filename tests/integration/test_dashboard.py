"""The dashboard in a real browser, over node processes: it loads, it lives, a dead node turns red, and nothing can get in."""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import browser, complaints  # noqa: F401  # a fixture
from polling import wait_until

from kvcache.cluster.embedded import EmbeddedValkey
from kvcache_client import Client
from kvcache_client.protocol.errors import KvCacheError

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def trio(loop_thread, start_processes) -> Iterator[list[Any]]:
    """Three node processes of one cluster."""
    valkey = EmbeddedValkey()
    loop_thread.run(valkey.start())
    try:
        options = ("--coordinator", valkey.url, "--cluster", "shown", "--replication-factor", "2")
        yield [start_processes("--id", f"shown-{number}", *options).serving() for number in (1, 2, 3)]
    finally:
        loop_thread.run(valkey.stop())


@pytest.fixture
def load(trio) -> Iterator[None]:
    """Reads and writes for as long as the test lasts."""
    ended = threading.Event()

    def work() -> None:
        with Client([node.address for node in trio[:2]], timeout=2.0) as cache:
            for number in itertools.count():
                if ended.is_set():
                    return
                try:
                    cache.set(f"shown:{number % 500}", "x" * 100)
                    cache.get_many([f"shown:{(number + step) % 700}" for step in range(10)])
                except KvCacheError:
                    continue  # one of the tests kills a node

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture
def page(browser, trio) -> Any:  # noqa: F811
    """The dashboard of the first node, with figures."""
    browser.get_log("browser")
    browser.get(f"http://{trio[0].address}/")
    wait_until(lambda: text(browser, "#health") not in ("", "Connecting"))
    return browser


@pytest.fixture
def guarded(start_process, coordinator, tmp_path) -> Any:
    """A node that asks for secrets."""
    file = tmp_path / "secrets"
    file.write_text("".join(f"{role} {role * 8}\n" for role in ("client", "node", "admin")))
    file.chmod(0o600)
    return start_process(
        "--cluster", "behind-secrets", "--coordinator", coordinator, "--secret-file", str(file)
    ).serving()


def give_secret(page: Any, secret: str) -> None:
    wait_until(lambda: page.execute_script("return document.querySelector('#ask-secret').open"))
    page.find_element("id", "secret").send_keys(secret)
    click(page, "#secret-ok")


def text(page: Any, selector: str) -> str:
    return str(page.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))


def number(page: Any, selector: str) -> float:
    return float(text(page, selector).replace(",", "").replace(" k", "e3").replace("\u2013", "0") or 0)


def click(page: Any, selector: str) -> None:
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def test_it_loads_and_says_who_is_there_without_a_complaint(page):
    wait_until(lambda: text(page, "#health") == "Healthy")
    assert page.title == "shown · kvcache"
    rows = page.execute_script("return [...document.querySelectorAll('#nodes tr')].map(row => row.dataset.node)")
    assert rows == ["shown-1", "shown-2", "shown-3"]
    assert page.execute_script("return document.querySelectorAll('#ring path').length") == 6
    assert "joins at" in text(page, "#events")
    assert complaints(page) == []


def test_the_figures_move_under_load(page, load):
    wait_until(lambda: number(page, "#v-requests") > 0)
    seen = {text(page, "#v-requests")}
    wait_until(lambda: seen.add(text(page, "#v-requests")) or len(seen) > 2)
    wait_until(lambda: 0 < number(page, "#v-ratio") <= 100)
    assert number(page, "#v-records") > 0
    assert complaints(page) == []


def test_what_is_written_in_the_cluster_is_shown_as_text_and_never_run(page, trio):
    body = json.dumps({"prefix": EVIL}).encode()
    head = f"POST /v1/admin/purge HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    assert trio[0].http(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)[0] == 200
    wait_until(lambda: EVIL in text(page, "#events"))
    assert page.execute_script("return document.querySelectorAll('img').length") == 0
    assert page.title == "shown · kvcache"
    assert complaints(page) == []


def test_nothing_is_wider_than_a_phone(page):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1] == 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_moves_about_while_figures_change(page, load):
    """The sum of layout shifts since the page began to load; below 0.1 is what browsers' makers call good."""
    seen: set[str] = set()
    wait_until(lambda: seen.add(text(page, "#v-requests")) or len(seen) > 3)
    shifts = page.execute_async_script("""
        const done = arguments[0];
        new PerformanceObserver((list) => done(list.getEntries().reduce((sum, entry) => sum + entry.value, 0)))
          .observe({ type: "layout-shift", buffered: true });
        setTimeout(() => done(0), 500);
    """)
    assert shifts < 0.02


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(page, scheme):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    contrast = page.execute_script("""
        const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
        const light = (text) => rgb(text).slice(0, 3).map((c) => c / 255)
          .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
          .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
        const ground = (it) => { for (; it; it = it.parentElement) {
          const colour = getComputedStyle(it).backgroundColor;
          if (rgb(colour)[3] !== 0) return colour; } return "rgb(255, 255, 255)"; };
        return [...document.querySelectorAll("h1, h2, dt, dd, p, th, td, .chip, .soft, button, li span, time")]
          .filter((it) => it.checkVisibility() && it.textContent.trim())
          .map((it) => { const [a, b] = [light(getComputedStyle(it).color), light(ground(it))];
            return [it.className || it.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; })
          .filter(([, ratio]) => ratio < 4.5);
    """)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert contrast == []


def test_an_operation_asks_for_the_name_and_is_carried_out(page, trio):
    assert not page.execute_script("return document.querySelector('#operations').checkVisibility()")
    click(page, "#unlock")
    click(page, "#secret-ok")
    wait_until(lambda: page.execute_script("return document.querySelector('#operations').checkVisibility()"))
    click(page, "#operations button")
    assert text(page, "#operation-type") == "Type shown to confirm"
    assert page.execute_script("return document.querySelector('#operation-ok').disabled")
    page.find_element("id", "operation-name").send_keys("shown")
    assert not page.execute_script("return document.querySelector('#operation-ok').disabled")
    click(page, "#operation-ok")
    wait_until(lambda: text(page, "#operation-outcome").startswith("Done."))
    wait_until(lambda: all(node.statistics()["store"]["records"] == 0 for node in trio))
    assert complaints(page) == []


def test_a_killed_node_turns_red_within_five_seconds(page, trio):
    healthy = "return document.querySelectorAll('#nodes tr[data-health=good]').length"
    wait_until(lambda: page.execute_script(healthy) == 3)
    trio[2].signal(signal.SIGKILL)
    red = "return document.querySelector('#nodes tr[data-node=shown-3]').dataset.health"
    wait_until(lambda: page.execute_script(red) == "bad", 5.0)
    assert text(page, "#nodes tr[data-node=shown-3] .chip") == "unreachable"
    assert text(page, "#health") == "1 node unreachable"
    assert page.execute_script("return document.querySelectorAll('#ring path.gone').length") == 2
    assert complaints(page) == []


def test_a_cluster_with_secrets_shows_nothing_without_one_and_lets_only_an_admin_operate(browser, guarded):  # noqa: F811
    page = browser
    page.get(f"http://{guarded.address}/")
    give_secret(page, "wrong" * 8)
    wait_until(lambda: text(page, "#health") == "A secret is asked for")
    assert text(page, "#cluster") == ""
    give_secret(page, "client" * 8)
    wait_until(lambda: text(page, "#health") == "Healthy")
    for secret, outcome in (("client", "Forbidden"), ("admin", "Done.")):
        click(page, "#unlock")
        give_secret(page, secret * 8)
        wait_until(lambda: page.execute_script("return document.querySelector('#operations').checkVisibility()"))
        click(page, "#operations button")
        page.find_element("id", "operation-name").send_keys("behind-secrets")
        click(page, "#operation-ok")
        wait_until(lambda outcome=outcome: text(page, "#operation-outcome").startswith(outcome))
        click(page, "#operation-cancel")
    kept = page.execute_script("return JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    assert "admin" not in kept
    assert "admin" * 8 not in guarded.log


def test_a_page_whose_own_node_dies_says_so_and_finds_it_again(browser, start_process, free):  # noqa: F811
    page, port = browser, free()
    node = start_process("--cluster", "lonely", port=port).serving()
    page.get(f"http://{node.address}/")
    wait_until(lambda: text(page, "#health") == "Healthy")
    node.signal(signal.SIGKILL)
    wait_until(lambda: text(page, "#health") == "Connection lost; trying again")
    assert page.execute_script("return 'stale' in document.querySelector('main').dataset")
    start_process("--cluster", "lonely", port=port).serving()
    wait_until(lambda: text(page, "#health") == "Healthy")
    assert not page.execute_script("return 'stale' in document.querySelector('main').dataset")
