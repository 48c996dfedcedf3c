"""Signatures verify with the public key over the agreed text; a key file that others can read is refused."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption

from trading.exchange.auth import Signer, load_key, open_signer
from trading.exchange.errors import KeyFileRefused

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
PATH = "/trade-api/v2/portfolio/events/orders"


def pem(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, secret: bytes = b""
) -> bytes:
    encryption = BestAvailableEncryption(secret) if secret else NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def signature_of(headers: dict[str, str]) -> bytes:
    return base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"], validate=True)


def test_an_rsa_signature_verifies_as_pss_with_sha256_and_a_salt_of_32() -> None:
    headers = Signer("key-1", RSA_KEY).headers("post", PATH, 1_700_000_000_123)
    assert headers["KALSHI-ACCESS-KEY"] == "key-1"
    assert headers["KALSHI-ACCESS-TIMESTAMP"] == "1700000000123"
    text = b"1700000000123POST" + PATH.encode()
    RSA_KEY.public_key().verify(signature_of(headers), text, PSS, hashes.SHA256())


def test_an_ed25519_signature_verifies_over_the_same_text() -> None:
    headers = Signer("key-2", ED_KEY).headers("GET", "/trade-api/ws/v2", 5)
    ED_KEY.public_key().verify(signature_of(headers), b"5GET/trade-api/ws/v2")


@pytest.mark.parametrize(
    "text", [b"1GET" + PATH.encode(), b"2POST" + PATH.encode(), b"1POST" + PATH.encode() + b"?x=1"]
)
def test_a_signature_holds_for_its_own_text_alone(text: bytes) -> None:
    signature = signature_of(Signer("key", ED_KEY).headers("POST", PATH, 1))
    with pytest.raises(InvalidSignature):
        ED_KEY.public_key().verify(signature, text)


def test_the_parsed_key_tells_its_kind(tmp_path: Path) -> None:
    assert isinstance(load_key(write(tmp_path / "a", pem(RSA_KEY))), rsa.RSAPrivateKey)
    assert isinstance(load_key(write(tmp_path / "b", pem(ED_KEY), 0o400)), ed25519.Ed25519PrivateKey)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o666, 0o601, 0o610, 0o700])
def test_a_key_file_wider_than_0600_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key.pem", pem(ED_KEY), mode)
    with pytest.raises(KeyFileRefused, match="chmod 600") as refused:
        load_key(path)
    assert refused.value.code == "E952"
    assert str(path) in str(refused.value)


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileRefused, match="missing"):
        load_key(tmp_path / "nowhere.pem")


def test_a_directory_and_a_pipe_are_no_key_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyFileRefused):
            load_key(path)


def test_a_key_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "key.pem", pem(ED_KEY))
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(KeyFileRefused, match="another user"):
        load_key(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a key", "no PEM private key"),
        (b"", "no PEM private key"),
        (pem(ED_KEY, b"secret"), "passphrase"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "neither"),
        (
            pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),  # noqa: S505 - must be refused
            "neither",
        ),
    ],
)
def test_another_content_is_refused_without_showing_it(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(KeyFileRefused, match=words) as refused:
        load_key(write(tmp_path / "key.pem", content))
    assert "BEGIN" not in str(refused.value)


def test_a_signer_does_not_show_its_key(tmp_path: Path) -> None:
    signer = open_signer("key-3", write(tmp_path / "key.pem", pem(RSA_KEY)))
    assert repr(signer) == "Signer('key-3')"
    assert not hasattr(signer, "__dict__")


def test_a_key_file_without_a_key_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileRefused, match="no key id"):
        open_signer("", write(tmp_path / "key.pem", pem(RSA_KEY)))
