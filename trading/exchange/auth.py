"""Signing requests with the account's private key (API.md 3). The key is read once and never leaves this module."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from trading.exchange.errors import KeyFileRefused

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

_LARGEST_KEY_FILE: Final = 64 * 1024
_SMALLEST_RSA: Final = 2048
_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)


class Signer:
    """Signs requests for one key id. Safe to share between threads: signing keeps no state."""

    __slots__ = ("_key", "key_id")

    def __init__(self, key_id: str, key: PrivateKey) -> None:
        self.key_id = key_id
        self._key = key

    def __repr__(self) -> str:
        return f"Signer({self.key_id!r})"

    def headers(self, method: str, path: str, ts_ms: int) -> dict[str, str]:
        """The three headers of an authenticated request.

        `path` is the URL's whole path from the root, without host, query and fragment; `ts_ms` Unix milliseconds.
        """
        signature = self._sign(f"{ts_ms}{method.upper()}{path}".encode())
        return {
            "KALSHI-ACCESS-KEY": self.key_id,
            "KALSHI-ACCESS-TIMESTAMP": str(ts_ms),
            "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode("ascii"),
        }

    def _sign(self, text: bytes) -> bytes:
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(text)
        return self._key.sign(text, _PSS, hashes.SHA256())


def open_signer(key_id: str, key_file: Path) -> Signer:
    """The signer for a key id and its PEM file. Raises KeyFileRefused (E952)."""
    if not key_id:
        raise KeyFileRefused(f"there is no key id for the key file {key_file}")
    return Signer(key_id, load_key(key_file))


def load_key(path: Path) -> PrivateKey:
    """Read an RSA or Ed25519 private key; the parsed key tells which (a PKCS#8 header does not).

    Raises KeyFileRefused (E952) when the file is missing, not ours, open to others (wider than 0600) or not such a key.
    """
    pem = _read_private(path)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise KeyFileRefused(
            f"{path} is protected by a passphrase; store it without one, mode 0600"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileRefused(f"{path} holds no PEM private key that we can read") from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, RSAPrivateKey) and key.key_size >= _SMALLEST_RSA:
        return key
    raise KeyFileRefused(
        f"{path} holds neither an Ed25519 key nor an RSA key of at least {_SMALLEST_RSA} bits"
    )


def _read_private(path: Path) -> bytes:
    # Checked on the open file, so that the file which was checked is the file which is read.
    try:
        # Without O_NONBLOCK a named pipe in the key's place would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise KeyFileRefused(f"{path} is missing; correct the path") from error
    except OSError as error:
        raise KeyFileRefused(f"{path} cannot be opened: {error.strerror}") from error
    try:
        _require_private(path, os.fstat(descriptor))
        return os.read(descriptor, _LARGEST_KEY_FILE)
    finally:
        os.close(descriptor)


def _require_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileRefused(f"{path} is not a file")
    if status.st_uid != os.geteuid():
        raise KeyFileRefused(f"{path} belongs to another user (uid {status.st_uid}); it must be ours")
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~0o600:
        raise KeyFileRefused(f"{path} has mode {mode:04o}, wider than 0600; run: chmod 600 '{path}'")
