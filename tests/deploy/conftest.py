"""The files under deploy/, and the tools that know whether they are right; a tool that is not there costs its tests only."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from deploy_files import DEPLOY


@pytest.fixture
def run_tool() -> Callable[..., str]:
    """Return what a tool says of a file it finds nothing wrong with; fail with its words otherwise."""

    def run(name: str, *arguments: str, cwd: Path = DEPLOY) -> str:
        tool = shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))
        if tool is None:
            pytest.skip(f"{name} is not installed")
        done = subprocess.run([tool, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run
