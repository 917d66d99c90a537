"""TLS: both clients against nodes with certificates, good ones and every kind of bad one, made for the test."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from client_faces import Face
from polling import until

from kvcache_client import ClientConfig
from kvcache_client.core.tls import Tls
from kvcache_client.protocol.errors import CertificateRejected, InvalidOption, Unavailable

SOON = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)


class Authority:
    """A certificate authority whose certificates lie in files."""

    def __init__(self, folder, name):
        self.ca = trustme.CA()
        self._folder, self._name = folder, name
        self.path = str(folder / f"{name}-ca.pem")
        self.ca.cert_pem.write_to_path(self.path)

    def issue(self, *hosts, name="node", **options):
        """Return the path of a certificate with its key."""
        path = self._folder / f"{self._name}-{name}.pem"
        issued = self.ca.issue_cert(*(hosts or ("127.0.0.1",)), **options)
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "theirs")


@pytest.fixture
def secured(start_node, authority):
    return start_node(tls_certificate=authority.issue(), tls_ca=authority.path)


@pytest.fixture
async def ask(make):
    """Ask a node for a key by a client with the given TLS."""
    faces = []

    async def run(address, tls):
        faces.append(Face(make([address], config=ClientConfig(5.0, 5.0, tls=tls))))
        return await faces[-1].get("a")

    yield run
    for face in faces:
        await face.close()


async def test_a_client_and_a_node_speak_tls(open_client, secured, authority, monkeypatch):
    monkeypatch.setenv("KVCACHE_TLS_CA", authority.path)
    cache = open_client(f"kvcaches://{secured.address}")
    await cache.set("a", "x" * 300_000)
    assert await cache.get("a") == "x" * 300_000
    many = {f"k{number}": b"v" * 10_000 for number in range(100)}
    await cache.set_many(many)
    assert dict(await cache.get_many(list(many))) == many


async def test_http_goes_through_the_same_tls(secured, authority):
    context = ssl.create_default_context(cafile=authority.path)
    host, port = secured.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(b"PUT /v1/kv/h HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
    writer.write(b"GET /v1/kv/h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"hi")
    writer.close()


async def test_what_is_sent_in_the_clear_is_not_answered(secured, make):
    host, port = secured.address.split(":")
    for data in (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\x97\x01\x00"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            assert b"HTTP/1.1 200" not in await reader.readexactly(200)
        writer.close()
    await until(lambda: secured.node.listener.counters.handshakes_failed >= 2)
    with pytest.raises(Unavailable):
        await Face(make(secured.address, connect_timeout=5.0)).get("a")


async def test_a_node_without_tls_is_said_to_speak_none(ask, one_node, authority):
    with pytest.raises(Unavailable, match=f"{one_node.addresses[0]}"):
        await ask(one_node.addresses[0], Tls(ca=authority.path))


async def test_a_certificate_of_an_unknown_authority_is_refused(ask, secured, stranger):
    with pytest.raises(
        CertificateRejected, match=f"certificate of {secured.address} is refused: .*checked by {stranger.path}"
    ):
        await ask(secured.address, Tls(ca=stranger.path))


async def test_a_self_signed_certificate_is_refused(ask, start_node, stranger, authority, tmp_path):
    path = tmp_path / "self.pem"
    stranger.ca.private_key_pem.write_to_path(str(path))
    stranger.ca.cert_pem.write_to_path(str(path), append=True)
    node = start_node(tls_certificate=str(path), tls_ca=stranger.path)
    with pytest.raises(CertificateRejected, match="self-signed certificate"):
        await ask(node.address, Tls(ca=authority.path))


async def test_an_expired_certificate_is_refused(ask, start_node, authority):
    node = start_node(tls_certificate=authority.issue(name="old", not_after=SOON), tls_ca=authority.path)
    with pytest.raises(CertificateRejected, match=f"certificate of {node.address} is refused: certificate has expired"):
        await ask(node.address, Tls(ca=authority.path))


async def test_a_certificate_for_another_host_is_refused_unless_its_name_is_expected(ask, start_node, authority):
    node = start_node(tls_certificate=authority.issue("cache.example", name="other"), tls_ca=authority.path)
    with pytest.raises(CertificateRejected, match=r"certificate is not valid for '127.0.0.1'"):
        await ask(node.address, Tls(ca=authority.path))
    assert await ask(node.address, Tls(ca=authority.path, server_name="cache.example")) is None


# Mutual TLS


@pytest.fixture
def mutual(start_node, authority):
    return start_node(tls_certificate=authority.issue(), tls_ca=authority.path, tls_client_ca=authority.path)


async def test_a_client_with_a_certificate_is_let_in(ask, mutual, authority):
    assert await ask(mutual.address, Tls(authority.path, authority.issue("web", name="web"))) is None


async def test_a_client_without_one_is_told_that_the_node_wants_it(ask, mutual, authority):
    with pytest.raises(CertificateRejected, match=f"{mutual.address}.*refuse a client without a certificate"):
        await ask(mutual.address, Tls(ca=authority.path))
    await until(lambda: mutual.node.listener.counters.handshakes_failed)


@pytest.mark.parametrize("kind", ["expired", "unknown"])
async def test_a_client_with_a_bad_one_is_told_whose_and_the_node_says_why(
    ask, mutual, authority, stranger, kind, caplog
):
    bad = (
        authority.issue("web", name="expired", not_after=SOON)
        if kind == "expired"
        else stranger.issue("web", name="web")
    )
    with pytest.raises(CertificateRejected, match=f"{mutual.address} .*refuse the certificate {bad} of this client"):
        await ask(mutual.address, Tls(authority.path, bad))
    said = "certificate has expired" if kind == "expired" else "unable to get local issuer certificate"
    await until(lambda: "TLS handshake with 127.0.0.1 failed: " in caplog.text and said in caplog.text)


async def test_nodes_speak_tls_to_each_other_and_show_certificates(ask, start_node, coordinator, authority):
    options = {"cluster": "secured", "coordinator": coordinator, "replication_factor": 2}
    tls = {"tls_certificate": authority.issue(), "tls_ca": authority.path, "tls_client_ca": authority.path}
    nodes = [start_node(id=f"secured-{number}", **options, **tls) for number in (1, 2)]
    await until(lambda: all(node.settled and len(node.node.topology().members) == 2 for node in nodes))
    config = ClientConfig(5.0, 5.0, acks=2, tls=Tls(authority.path, authority.issue("web", name="web")))
    from kvcache_client import AsyncClient

    async with AsyncClient([nodes[0].address], config=config) as cache:
        for number in range(20):
            await cache.set(f"k{number}", number)
        copies = (await cache.explain("k1")).copies
        assert sum(copy.version is not None for copy in copies) == 2


# Exchanging certificates


async def test_a_node_shows_a_new_certificate_without_a_restart(start_node, authority, stranger, ask, tmp_path):
    path = tmp_path / "node.pem"
    path.write_bytes(Path(authority.issue()).read_bytes())
    node = start_node(tls_certificate=str(path), tls_ca=authority.path)
    assert await ask(node.address, Tls(ca=authority.path)) is None
    fresh = tmp_path / "fresh.pem"
    fresh.write_bytes(Path(stranger.issue()).read_bytes())
    os.replace(fresh, path)

    async def taken(tls):
        try:
            return await ask(node.address, tls) is None
        except CertificateRejected:
            return False

    async with asyncio.timeout(20):
        while not await taken(Tls(ca=stranger.path)):
            await asyncio.sleep(0.05)
    with pytest.raises(CertificateRejected):
        await ask(node.address, Tls(ca=authority.path))


# Files


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (Tls(ca="/no/such/ca.pem"), "cannot use the CA certificates in /no/such/ca.pem: No such file"),
        (Tls(ca=__file__), "cannot use the CA certificates in"),
        (Tls(certificate="/no/such/cert.pem"), "cannot use the certificate and key in /no/such/cert.pem: No such file"),
        (Tls(certificate=__file__), "cannot use the certificate and key in"),
    ],
)
async def test_files_that_are_no_good_are_named(ask, tls, said, authority):
    with pytest.raises(InvalidOption, match=said):
        await ask("127.0.0.1:1", replace(tls, ca=tls.ca or authority.path))


async def test_a_key_of_another_certificate_is_named(ask, authority, stranger):
    tls = Tls(authority.path, authority.issue("web", name="web"), stranger.issue("web", name="web"))
    with pytest.raises(InvalidOption, match="the key is another certificate's"):
        await ask("127.0.0.1:1", tls)


def test_a_key_needs_its_certificate():
    with pytest.raises(InvalidOption, match="needs the certificate"):
        Tls(key="/key.pem")
