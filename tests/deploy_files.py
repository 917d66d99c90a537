"""Where the files that deploy a cluster are, read as what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"


def documents(name: str) -> list[dict[str, Any]]:
    """Return the YAML documents of a file under deploy/."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def alerts() -> list[dict[str, Any]]:
    """Return every alert rule."""
    (rules,) = documents("prometheus/alerts.yml")
    return [rule for group in rules["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """Return the Grafana dashboard."""
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/kvcache.json").read_text())
    return loaded
