"""How the exchange is reached: plain or by TLS, and as which environment it introduces itself."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

# What people read of an exchange that stands in for this environment (start-up banner, exchange status).
IDENTITIES = {"paper": "paper exchange", "demo": "demo exchange (played by the paper exchange)"}


class DoorUnusable(ValueError):
    """The options of the door contradict each other, or certificate and key cannot be used."""


@dataclass(frozen=True, slots=True)
class Frontdoor:
    """`tls_cert` is a PEM file with the chain, `tls_key` its private key; both or neither. Raises DoorUnusable."""

    identity: str = "paper"
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if self.identity not in IDENTITIES:
            raise DoorUnusable(f"no identity {self.identity!r}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise DoorUnusable("TLS needs both a certificate and its key")

    @property
    def secured(self) -> str:
        """The letter that tells https and wss from http and ws."""
        return "" if self.tls_cert is None else "s"

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS 1.2 or newer with the given certificate, or None. Raises DoorUnusable."""
        if self.tls_cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise DoorUnusable(f"certificate {self.tls_cert} with key {self.tls_key}: {error}") from error
        return context
