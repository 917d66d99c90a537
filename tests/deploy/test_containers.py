"""Containers and manifests: valid by the schemas of those who run them, and set no option that nodes do not know."""

import re
import shutil
import subprocess

import jsonpatch
import kubernetes_validate
import pytest
import yaml
from deploy_files import DEPLOY, documents

from kvcache.options import OPTIONS, resolve_options

VARIABLES = {option.variable for option in OPTIONS.values()}
MANIFESTS = sorted(
    str(path.relative_to(DEPLOY))
    for path in (DEPLOY / "kubernetes").rglob("*.yaml")
    if path.name not in ("kustomization.yaml", "servicemonitor.yaml")  # not of Kubernetes itself: no schema
)


def kvcache_container():
    (node,) = documents("kubernetes/base/statefulset.yaml")
    return node["spec"]["template"]["spec"]["containers"][0]


def test_the_image_is_built_as_it_should_be(run_tool):
    run_tool("hadolint", "Dockerfile")


def test_the_image_holds_what_the_package_is_made_of():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") and "--from" not in line for name in line.split()[1:-1]}
    assert copied == {"pyproject.toml", "README.md", "LICENSE", "client", "kvcache"}
    assert lines.index("USER 10001:10001") < lines.index('ENTRYPOINT ["kvcache"]')


def test_compose_takes_its_file(run_tool, tmp_path):
    (tmp_path / "compose.yaml").write_text((DEPLOY / "compose.yaml").read_text())
    (tmp_path / "secrets").mkdir()
    for name in ("kvcache_secret", "kvcache_metrics_secret"):
        (tmp_path / "secrets" / name).touch()
    run_tool("docker-compose", "-f", "compose.yaml", "config", "-q", cwd=tmp_path)


def test_nodes_of_compose_are_told_options_that_there_are():
    (compose,) = documents("compose.yaml")
    nodes = {name: spec["environment"] for name, spec in compose["services"].items() if name.startswith("node-")}
    assert len(nodes) == 3
    for name, environment in nodes.items():
        assert set(environment) <= VARIABLES
        options = resolve_options({}, environment, {})
        assert (options.id, options.advertise) == (name, f"{name}:7700")


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_kubernetes_takes_every_manifest(manifest):
    found = documents(manifest)
    assert found
    for document in found:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_nodes_of_kubernetes_are_told_options_that_there_are():
    names = {entry["name"] for entry in kvcache_container()["env"]}
    assert names - {"POD"} <= VARIABLES


def test_every_manifest_belongs_to_the_base():
    (base,) = documents("kubernetes/base/kustomization.yaml")
    files = {path.name for path in (DEPLOY / "kubernetes/base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(base["resources"]) == files


@pytest.mark.parametrize("overlay", ["small", "three-zones"])
def test_overlays_change_what_is_there(overlay):
    (node,) = documents("kubernetes/base/statefulset.yaml")
    (kustomization,) = documents(f"kubernetes/overlays/{overlay}/kustomization.yaml")
    patches = [yaml.safe_load(patch["patch"]) for patch in kustomization["patches"]]
    operations = [operation for patch in patches if isinstance(patch, list) for operation in patch]
    assert operations
    patched = jsonpatch.apply_patch(node, operations)
    kubernetes_validate.validate(patched, kubernetes_validate.latest_version(), strict=True)
    assert patched != node


def test_a_pod_is_ready_when_it_is_loaded_and_leaves_when_the_others_are_whole():
    container = kvcache_container()
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["lifecycle"]["preStop"]["exec"]["command"][:3] == ["kvcache", "admin", "wait-healthy"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_secrets_for_compose_are_made_once_and_for_each_role(run_tool, tmp_path):
    for tool in ("make", "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    (tmp_path / "Makefile").write_text((DEPLOY / "Makefile").read_text())
    run_tool("make", "secrets", cwd=tmp_path)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    roles = [line.split() for line in made["kvcache_secret"].splitlines()]
    assert [role for role, _ in roles] == ["client", "node", "admin"]
    assert len({secret for _, secret in roles if len(secret) >= 24}) == 3
    assert made["kvcache_metrics_secret"] == roles[0][1]
    assert {path.stat().st_mode & 0o007 for path in (tmp_path / "secrets").iterdir()} == {0}
    again = subprocess.run(["make", "secrets"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (again.returncode != 0, "holds secrets already" in again.stdout) == (True, True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}


def test_no_secret_stands_in_any_file():
    for path in DEPLOY.rglob("*"):
        if path.is_file() and "secrets" not in path.parts:
            assert not re.search(r"(?i)(password|secret|token)\s*[:=]\s*['\"][^'\"{$]{8,}", path.read_text()), path
