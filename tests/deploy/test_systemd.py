"""The systemd unit: taken by systemd, hardened, and its command line starts a node."""

import os
import re
import shlex
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest
from deploy_files import DEPLOY
from integration.conftest import wait_for

from kvcache.cluster import launcher

UNIT = DEPLOY / "systemd/kvcache-node@.service"


def command_of(unit: str) -> str:
    (line,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    return line


def test_systemd_takes_the_unit(run_tool, tmp_path):
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text().replace("/opt/kvcache/bin/kvcache", "/bin/true")
        (tmp_path / path.name.replace("@", "@7700")).write_text(text)
    run_tool("systemd-analyze", "verify", "--man=no", "./kvcache-node@7700.service", "./kvcache.target", cwd=tmp_path)


def test_the_unit_gives_away_little(run_tool, tmp_path):
    (tmp_path / "kvcache-node@7700.service").write_text(UNIT.read_text())
    said = run_tool(
        "systemd-analyze", "security", "--offline=true", "--no-pager", "./kvcache-node@7700.service", cwd=tmp_path
    )
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """The files that the unit expects, as the runbook has them made."""
    (tmp_path / "kvcache.toml").write_text((DEPLOY / "kvcache.toml").read_text())
    secret = tmp_path / "secret"
    secret.write_text("client c0ffee-of-the-morning-shift\nadmin c0ffee-of-the-night-shift\n")
    secret.chmod(0o400)
    return tmp_path


def test_the_command_line_of_the_unit_starts_a_node(etc):
    with socket.socket() as probe:
        probe.bind(("", 0))  # free at every address, as the unit asks for
        port = probe.getsockname()[1]
    line = command_of(UNIT.read_text())
    for specifier, value in {
        "/opt/kvcache/bin": sysconfig.get_path("scripts"),
        "/etc/kvcache": str(etc),
        "%d": str(etc),
        "%i": str(port),
        "%H": "here",
        "${KVCACHE_HOST}": "127.0.0.1",
    }.items():
        line = line.replace(specifier, value)
    child = subprocess.Popen([sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), *shlex.split(line)])
    try:
        wait_for(lambda: _ready(port), "the node of the unit is ready")
        child.terminate()
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.wait(20)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
