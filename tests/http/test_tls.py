"""A server behind TLS, by a certificate of its own authority."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from resonate.errors import StorageUnavailable
from resonate.network.http.network import HttpNetwork
from resonate.protocol.requests import PromiseGet
from tests.wire_server import serving

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def test_requests_travel_by_tls_and_reuse_their_connection(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    with serving(tls=context) as server:
        net = HttpNetwork(server.url, "default", "me")
        statuses = [net.send([PromiseGet("a")])[0].status for _ in range(5)]
        net.stop()

    assert server.url.startswith("https://")
    assert statuses == [404] * 5
    assert server.connections == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    with serving(tls=context) as server:
        net = HttpNetwork(server.url, "default", "me", patience=0.1)
        with pytest.raises(StorageUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            net.send([PromiseGet("a")])
        net.stop()
