"""Whom we take for the exchange: one with a certificate for its host name, signed by an authority that we trust.

Trusted are the system's authorities and, where the setting KALSHI_CA_FILE names a file, those of that file too. There
is no way to switch verification off, and nothing falls back to a connection without it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from trading.exchange.errors import AuthorityRefused

_also: list[Path] = []

_UNKNOWN_AUTHORITY: Final = "its certificate is not signed by an authority that we trust"
# OpenSSL's X509_V_ERR_* numbers, in the words of whoever has to do something about it.
_FAULTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        2: _UNKNOWN_AUTHORITY,
        9: "its certificate is not valid yet: look at this machine's clock",
        10: "its certificate has expired (or this machine's clock is wrong)",
        18: _UNKNOWN_AUTHORITY,
        19: _UNKNOWN_AUTHORITY,
        20: _UNKNOWN_AUTHORITY,
        21: _UNKNOWN_AUTHORITY,
        62: "its certificate is for another host name",
        64: "its certificate is for another address",
    }
)


def trust_also(ca_file: Path | None) -> None:
    """Trust the authorities of this PEM file beside the system's; None: those alone. Once per process."""
    _also[:] = [] if ca_file is None else [ca_file]


def context() -> ssl.SSLContext:
    """A fresh context that verifies chain and host name. Raises AuthorityRefused (E952) on an unusable file."""
    made = ssl.create_default_context()
    for path in _also:
        try:
            made.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise AuthorityRefused(f"{path} holds no certificate authority that we can read") from error
    return made


def fault(error: BaseException) -> str:
    """Why the exchange's identity is not proven, in plain words; empty when the error is about something else."""
    for cause in _causes(error):
        # aiohttp's own class stands before the original and knows no reason.
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_code"):
            return _FAULTS.get(cause.verify_code, f"its certificate is refused: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLCertVerificationError):
            return f"it does not speak TLS as agreed ({cause.reason or 'no reason given'})"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    # urllib3 and aiohttp keep the original among the arguments, or chain to it.
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        more = (*each.args, each.__cause__, each.__context__, getattr(each, "certificate_error", None))
        waiting += [cause for cause in more if isinstance(cause, BaseException)]
