"""The door of the paper exchange process: TLS with a test authority, its identity, and refusals to start."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.exchanges import ROOT, paper_exchange
from tests.paper_venue import Client, Signer, running
from trading.paper.frontdoor import DoorUnusable, Frontdoor

pytestmark = pytest.mark.slow

LOOPBACK = ipaddress.ip_address("127.0.0.1")


@dataclass(frozen=True)
class Issued:
    """Files of a certificate for 127.0.0.1 and of the authority that signed it."""

    authority: Path
    cert: Path
    key: Path

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)


def issue(folder: Path) -> Issued:
    """A test authority and one certificate of it."""
    folder.mkdir()
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate(
        "test authority", authority_key, "test authority", authority_key, is_authority=True
    )
    cert = _certificate("127.0.0.1", key, "test authority", authority_key, is_authority=False)
    issued = Issued(folder / "authority.pem", folder / "cert.pem", folder / "key.pem")
    issued.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    issued.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    issued.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return issued


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
    return (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(LOOPBACK)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return issue(tmp_path_factory.mktemp("tls") / "ca")


async def test_a_process_in_demo_identity_speaks_tls_on_both_doors(issued: Issued, tmp_path: Path) -> None:
    home = tmp_path / "demo"
    options = ("--identity", "demo", "--tls-cert", str(issued.cert), "--tls-key", str(issued.key))
    with paper_exchange(home, *options) as paper:
        assert (paper.ready["identity"], paper.rest_url[:8], paper.ws_url[:6]) == (
            "demo",
            "https://",
            "wss://",
        )
        origin = paper.rest_url.removesuffix("/trade-api/v2")
        connector = aiohttp.TCPConnector(ssl=issued.trust)
        async with aiohttp.ClientSession(connector=connector) as session:
            client = Client(session, origin, Signer.of(home, "desk-read"))
            status = await client.get("/exchange/status")
            assert "demo" in status["exchange_index_statuses"][0]["description"]
            async with client.stream() as stream:
                await stream.subscribe("trade")


async def test_a_stranger_to_the_authority_does_not_connect(issued: Issued, tmp_path: Path) -> None:
    door = Frontdoor(tls_cert=issued.cert, tls_key=issued.key)
    async with running(tmp_path, door=door) as paper, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(paper.server.rest_url + "/exchange/status")
        with pytest.raises((aiohttp.ClientError, asyncio.IncompleteReadError)):
            await session.get(paper.origin + "/trade-api/v2/exchange/status")


def test_half_a_door_is_none(issued: Issued) -> None:
    with pytest.raises(DoorUnusable, match="both"):
        Frontdoor(tls_cert=issued.cert)
    with pytest.raises(DoorUnusable, match=r"key\.pem"):
        Frontdoor(tls_cert=issued.authority, tls_key=issued.key).ssl_context()


def test_a_process_that_cannot_open_its_door_says_so_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trading.paper", "--home", str(tmp_path), "--tls-cert", "nowhere.pem"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "the paper exchange cannot start: TLS needs both a certificate and its key"
    ]
