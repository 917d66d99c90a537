"""Redis over TLS: ``rediss://`` with the CA in the URL, and what is said when its certificate is not taken."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
import trustme

from kvcache.cluster.coordinator import Coordinator
from kvcache_client.protocol.errors import ControlPlaneUnavailable


@pytest.fixture
async def secured(coordinator, tmp_path):
    """Yield the port of a TLS front of the coordinator, and the path of the CA that signed its certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    host, port = coordinator.server.removeprefix("redis://").split(":")

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader, writer):
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], tmp_path / "ca.pem"
    server.close()


async def test_coordination_goes_through_tls(secured):
    port, ca = secured
    coordinator = Coordinator(f"rediss://127.0.0.1:{port}?ssl_ca_certs={ca}", timeout=10.0)
    assert await coordinator.ask("ECHO", "hi") == b"hi"
    assert "ssl_ca_certs" not in coordinator.server
    await coordinator.close()


async def test_a_certificate_of_an_unknown_authority_is_refused(secured):
    port, _ = secured
    coordinator = Coordinator(f"rediss://127.0.0.1:{port}", timeout=10.0)
    with pytest.raises(ControlPlaneUnavailable, match=f"rediss://127.0.0.1:{port}.*certificate verify failed"):
        await coordinator.ask("PING")
    await coordinator.close()
