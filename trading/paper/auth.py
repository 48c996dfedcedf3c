"""Who asks: verification of signed requests (API.md 3).

Signed bytes are timestamp + METHOD + path, the path exactly as received and without its query. The algorithm
is that of the registered public key: RSA-PSS (SHA-256, MGF1-SHA-256, salt 32) or Ed25519.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from trading.paper.accounts import ApiKey
from trading.paper.refusals import Refused, nested

KEY_HEADER = "KALSHI-ACCESS-KEY"
TIMESTAMP_HEADER = "KALSHI-ACCESS-TIMESTAMP"
SIGNATURE_HEADER = "KALSHI-ACCESS-SIGNATURE"
HEADERS = (KEY_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)

# The real window is not published; observed: -30 s refused, +-10 s and +30 s accepted, +-60 s refused.
OLDEST_MS = 25_000
NEWEST_MS = 35_000

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


class Verifier:
    """Knows the registered keys and checks requests against them."""

    def __init__(self, keys: Mapping[str, ApiKey], clock_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._clock_ms = clock_ms

    def identify(self, headers: Mapping[str, str], method: str, path: str) -> ApiKey:
        """The key that signed this request. Raises Refused (401) with the real exchange's codes."""
        key_id, timestamp, signature = (headers.get(name, "") for name in HEADERS)
        if not (key_id and timestamp and signature):
            raise nested(401, "signature_is_missing_from_headers", "signature is missing from headers")
        key = self._keys.get(key_id)
        if key is None:
            raise nested(401, "authentication_error", "authentication error", "NOT_FOUND")
        self._require_fresh(timestamp)
        if not verify(key, f"{timestamp}{method}{path}".encode(), signature):
            raise _wrong_signature()
        return key

    def _require_fresh(self, timestamp: str) -> None:
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 16):
            raise _expired()
        age_ms = self._clock_ms() - int(timestamp)
        if not -NEWEST_MS <= age_ms <= OLDEST_MS:
            raise _expired()


def verify(key: ApiKey, text: bytes, signature: str) -> bool:
    """Whether the base64 signature over the text was made by this key."""
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(key.public_key, rsa.RSAPublicKey):
            key.public_key.verify(raw, text, _PSS, hashes.SHA256())
        else:
            key.public_key.verify(raw, text)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def require_subaccount(key: ApiKey, asked: int | None) -> int | None:
    """The subaccount that a request is about: what it asks for, else the key's own. Raises Refused (403) when the key
    is locked to another one."""
    if key.subaccount is None:
        return asked
    if asked is not None and asked != key.subaccount:
        raise nested(403, "subaccount_forbidden", "the API key is restricted to another subaccount")
    return key.subaccount


def require_unlocked(key: ApiKey) -> None:
    """Raises Refused (403) for a key that is locked to one subaccount: it neither moves money between subaccounts nor
    makes subaccounts and keys."""
    if key.subaccount is not None:
        raise nested(403, "subaccount_forbidden", "the API key is restricted to one subaccount")


def require_scope(key: ApiKey, scope: str) -> None:
    """Raises Refused (403) when the key may not do this."""
    if not key.may(scope):
        raise nested(403, "insufficient_scope", "the API key lacks a scope", scope)


def _expired() -> Refused:
    return nested(401, "header_timestamp_expired", "header timestamp expired")


def _wrong_signature() -> Refused:
    return nested(401, "authentication_error", "authentication error", "INCORRECT_API_KEY_SIGNATURE")
