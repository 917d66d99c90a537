"""Which node may start: the secrets that it finds, and the addresses on which it needs some."""

import asyncio

import pytest

from kvcache.access import node_secrets
from kvcache.node import Node
from kvcache.options import NodeOptions
from kvcache_client.credentials import secrets_from
from kvcache_client.protocol.auth import NO_SECRETS
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.verbs import Role

SECRET = "s" * 32


@pytest.fixture
def secret_file(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "secrets"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return str(path)

    return write


@pytest.mark.parametrize("listen", ["127.0.0.1:7700", "localhost:7700", "[::1]:7700", "127.3.4.5:7700"])
def test_loopback_needs_no_secret(listen):
    assert node_secrets(NodeOptions(listen=listen), {}) == NO_SECRETS


@pytest.mark.parametrize("listen", ["0.0.0.0:7700", "[::]:7700", "10.0.0.1:7700", "cache.example:7700"])
def test_any_other_address_is_refused_without_one(listen):
    options = NodeOptions(listen=listen, advertise="10.0.0.1:7700")
    with pytest.raises(
        InvalidOption, match=r"reached from other machines.*openssl rand.*--secret-file.*KVCACHE_SECRET"
    ):
        node_secrets(options, {})
    assert node_secrets(options, {"KVCACHE_SECRET": SECRET}).shown_as(Role.NODE)


async def test_a_node_itself_refuses(monkeypatch):
    monkeypatch.delenv("KVCACHE_SECRET", raising=False)
    monkeypatch.delenv("KVCACHE_SECRET_FILE", raising=False)
    with pytest.raises(InvalidOption, match="reached from other machines"):
        Node(NodeOptions(listen="0.0.0.0:0", advertise="10.0.0.1:7700"))
    await asyncio.sleep(0)


def test_secrets_for_clients_alone_would_part_the_nodes(secret_file):
    with pytest.raises(InvalidOption, match="hold none for the role node"):
        node_secrets(NodeOptions(secret_file=secret_file(f"client {SECRET}")), {})


def test_the_option_goes_before_the_environment(secret_file):
    path = secret_file(f"node {SECRET}")
    assert secrets_from({"KVCACHE_SECRET": "x" * 32}, path).role_of(SECRET.encode()) == Role.NODE
    assert secrets_from({"KVCACHE_SECRET": "x" * 32, "KVCACHE_SECRET_FILE": path}).role_of(b"x" * 32) is None
    assert secrets_from({"KVCACHE_SECRET": SECRET}).role_of(SECRET.encode()) == Role.ADMIN
    assert secrets_from({}) == NO_SECRETS


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda write: "/no/such/file", "cannot read the secret file /no/such/file: No such file"),
        (lambda write: "/", "cannot read the secret file /: Is a directory"),
        (lambda write: write(""), "holds no secret"),
        (lambda write: write(b"\xff" * 32), "is not UTF-8"),
        (lambda write: write("a" * 70_000), "has over 65536 bytes"),
        (lambda write: write("who secretsecretsecretsecret"), "line 1: must be ROLE SECRET"),
    ],
)
def test_a_file_that_holds_none_is_named(make, said, secret_file):
    with pytest.raises(InvalidOption) as caught:
        secrets_from({}, make(secret_file))
    assert said in str(caught.value)
    assert "secretsecret" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_named(monkeypatch, secret_file):
    path = secret_file(SECRET)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # root may read everything
    with pytest.raises(InvalidOption, match=f"cannot read the secret file {path}: Permission denied"):
        secrets_from({}, path)


def test_a_file_that_everybody_can_read_is_used_with_a_warning(caplog, secret_file):
    path = secret_file(SECRET, 0o644)
    assert secrets_from({}, path)
    assert caplog.messages == [f"every user of this machine can read the secret file {path}; chmod o-r,g-w it"]
    caplog.clear()
    assert secrets_from({}, secret_file(SECRET, 0o600))
    assert caplog.messages == []
