"""kvcache up, end to end: real processes that start, serve, suffer and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from kvcache.commands.local_cluster import LocalPlan, choose_ports
from kvcache_client import Client


def pids(facts):
    return [facts["coordinator"]["pid"], *(node["pid"] for node in facts["nodes"])]


def test_three_nodes_form_one_cluster_that_the_commands_can_use(up, shell, until, is_alive):
    cluster = up("--json", "--memory", "64MiB")
    facts = cluster.facts()
    assert [node["id"] for node in facts["nodes"]] == ["node-1", "node-2", "node-3"]
    seeds = {"env": {**os.environ, "KVCACHE_SEEDS": facts["seeds"]}}

    assert shell("set", "greeting", "hello", "--ttl", "60", **seeds).returncode == 0
    assert shell("get", "greeting", **seeds).stdout == "hello\n"
    status = shell("status", **seeds)
    assert status.returncode == 0, status.stderr
    assert "members 3" in status.stdout
    explained = shell("explain", "greeting", **seeds).stdout
    assert explained.count("a record") == 2  # two copies
    assert shell("del", "greeting", **seeds).stdout == "1\n"
    assert shell("get", "greeting", **seeds).returncode == 1

    assert cluster.stop() == 0
    until(lambda: not any(is_alive(pid) for pid in pids(facts)))
    assert cluster.errors == ""


def _indented_after(text: str, heading: str) -> list[str]:
    """Return the lines that stand indented below a heading, as a person would copy them."""
    block = text.partition(heading)[2].partition("\n")[2].lstrip("\n")
    lines = []
    for line in block.splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line.removeprefix("    "))
    return lines


def test_what_it_prints_works_when_it_is_pasted(up):
    cluster = up("--nodes", "2")
    text = ""
    while "Ctrl-C" not in text:
        line = cluster.process.stdout.readline()
        assert line, cluster.errors
        text += line

    python = "\n".join(_indented_after(text, "From Python"))
    pasted = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=30, check=False)
    assert pasted.stdout == "{'name': 'Ada'}\n", pasted.stderr

    store, fetch, _ = [line for line in _indented_after(text, "From a shell") if line]
    assert store.startswith("curl -X PUT -d 'hello' ")
    body = urllib.request.Request(store.split()[-1], data=b"hello", method="PUT")
    with urllib.request.urlopen(body, timeout=10) as reply:
        assert reply.status < 300
    with urllib.request.urlopen(fetch.split()[-1], timeout=10) as reply:
        assert reply.read() == b"hello"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_every_polite_signal_stops_everything(up, is_alive, number):
    cluster = up("--json", "--nodes", "1")
    facts = cluster.facts()
    # Ctrl-C at a terminal goes to the parent's process group: the children are not in it and stop in order.
    assert os.getpgid(cluster.process.pid) not in {os.getpgid(pid) for pid in pids(facts)}
    assert cluster.stop(number) == 0
    assert not any(is_alive(pid) for pid in pids(facts))


def test_ctrl_c_as_a_terminal_sends_it_ends_everything_in_peace(up, is_alive):
    cluster = up("--json", start_new_session=True)
    facts = cluster.facts()
    os.killpg(cluster.process.pid, signal.SIGINT)
    assert cluster.process.wait(20) == 0
    assert not any(is_alive(pid) for pid in pids(facts))
    assert cluster.errors == ""


def test_ctrl_c_while_it_still_imports_ends_it_without_a_word(tmp_path):
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "kvcache", "up", "--port", "0"]
    ended = subprocess.run(command, env=env, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_a_signal_while_it_starts_stops_everything(up, until, is_alive):
    cluster = up("--json")
    children = until(lambda: len(cluster.children()) >= 2 and cluster.children())
    assert cluster.stop() == 0
    assert not any(is_alive(pid) for pid in children)
    assert cluster.facts() == {}


def test_a_killed_parent_takes_its_children_along(up, until, is_alive):
    cluster = up("--json", "--nodes", "2")
    facts = cluster.facts()
    cluster.process.kill()
    until(lambda: not any(is_alive(pid) for pid in pids(facts)))


def test_a_node_that_dies_is_reported_and_the_cluster_goes_on(up, until, is_alive):
    cluster = up("--json")
    facts = cluster.facts()
    victim = facts["nodes"][1]
    with Client(facts["seeds"], timeout=2.0) as cache:
        for number in range(50):
            cache.set(f"key-{number}", number)
        os.kill(victim["pid"], signal.SIGKILL)
        line = f"node-2 on {victim['address']} was killed by signal 9; the cluster goes on\n"
        until(lambda: cluster.errors == line)
        assert [cache.get(f"key-{number}") for number in range(50)] == list(range(50))
        cache.set("afterwards", "fine")
        assert cache.get("afterwards") == "fine"
    assert cluster.stop() == 0
    assert not any(is_alive(pid) for pid in pids(facts))


def test_without_coordination_data_is_served_on(up, until):
    cluster = up("--json", "--nodes", "2")
    facts = cluster.facts()
    os.kill(facts["coordinator"]["pid"], signal.SIGKILL)
    until(lambda: "coordination (Valkey) was killed by signal 9" in cluster.errors)
    with Client(facts["seeds"], timeout=2.0) as cache:
        cache.set("key", "value")
        assert cache.get("key") == "value"
    assert cluster.stop() == 0


def test_when_no_node_is_left_it_ends_by_itself(up, is_alive):
    cluster = up("--json", "--nodes", "1")
    facts = cluster.facts()
    os.kill(facts["nodes"][0]["pid"], signal.SIGKILL)
    assert cluster.process.wait(20) == 4
    assert "no node is left" in cluster.errors
    assert not is_alive(facts["coordinator"]["pid"])


def _room_for(count: int) -> int:
    """Return a first port with ``count`` free ones in a row, outside the range of automatic ports."""
    for first in range(21000, 29000, 50):
        try:
            choose_ports(LocalPlan(nodes=count, port=first))
        except ValueError:
            continue
        return first
    raise AssertionError("no free ports")


def test_a_taken_port_is_named_and_nothing_is_started(up):
    first = _room_for(3)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", first + 1))
        holder.listen()
        cluster = up("--json", port=first)
        assert cluster.process.wait(20) == 2
    assert cluster.errors.startswith(f"InvalidOption: port {first + 1} is taken on 127.0.0.1; ")
    assert "--port" in cluster.errors
    assert cluster.facts() == {}


def test_given_ports_follow_each_other(up):
    first = _room_for(2)
    facts = up("--json", "--nodes", "2", port=first).facts()
    assert [node["address"] for node in facts["nodes"]] == [f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "0"], "nodes is 0"),
        (["--nodes", "65"], "nodes is 65"),
        (["--replicas", "9"], "replicas is 9"),
        (["--nodes", "9", "--replicas", "9"], "replicas is 9"),
        (["--nodes", "2", "--replicas", "3"], "replicas is 3; each copy needs a node of its own, and nodes is 2"),
        (["--replicas", "0"], "replicas is 0"),
        (["--port", "65535"], "beyond 65535"),
        (["--port", "70000"], "port is 70000"),
        (["--memory", "plenty"], "--memory: 'plenty' is not a size"),
        (["--log-level", "loud"], "--log-level: 'loud' is not one of"),
    ],
)
def test_a_bad_option_has_code_2_and_one_line(run, words, said):
    result = run("up", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("InvalidOption: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
