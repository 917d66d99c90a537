"""A page in a headless Chromium: what its scripts and styles made of it, and a picture."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["opened", "pictured"]

_QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    return found


def _run(page: Path, folder: Path, *words: str) -> str:
    command = [_chromium(), *_QUIET, f"--user-data-dir={folder / 'profile'}", *words, page.as_uri()]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    return done.stdout


def opened(page: Path, folder: Path) -> str:
    """Return the document after its scripts have run."""
    return _run(page, folder, "--virtual-time-budget=3000", "--dump-dom")


def pictured(page: Path, folder: Path, width: int, height: int) -> bytes:
    """Return a PNG of the page's beginning, an eighth as wide and as high: there is less to decode."""
    picture = folder / f"{width}x{height}.png"
    scale = "--force-device-scale-factor=0.125"
    _run(page, folder, f"--window-size={width},{height}", scale, f"--screenshot={picture}")
    return picture.read_bytes()
