"""The registered API keys while the exchange runs: they may be made and deleted, are good at once, and survive a
restart.

`accounts.json` is written anew beside the old one and renamed, so that a kill -9 leaves one or the other whole.
Of a generated key pair only the public half is kept.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from trading.paper.accounts import (
    ACCOUNTS_FILE,
    ApiKey,
    Member,
    generate,
    load_or_make,
    read_key,
    write_private,
)
from trading.paper.refusals import nested, not_found

FULL_ACCESS = ("read", "write")


class Keyring:
    """All members and their keys; `keys` is looked into by the verifier of every request."""

    def __init__(self, home: Path) -> None:
        """Read `accounts.json`, or make it. Raises AccountsUnreadable."""
        self._home = home
        self.members: list[Member] = load_or_make(home)
        self.keys: dict[str, ApiKey] = {key.key_id: key for m in self.members for key in m.keys}

    def of(self, account_id: str) -> list[ApiKey]:
        """An account's keys, oldest first."""
        return [key for key in self.keys.values() if key.account_id == account_id]

    def register(
        self, account_id: str, name: str, public_pem: str, scopes: list[str] | None, subaccount: int | None
    ) -> ApiKey:
        """Take a public key (PEM). Raises Refused (400) for a key or scopes that cannot be."""
        entry: dict[str, Any] = {
            "key_id": str(uuid4()),
            "name": name,
            "public_key": public_pem,
            "algorithm": _algorithm(public_pem),
            "scopes": list(FULL_ACCESS if scopes is None else scopes),
        }
        if subaccount is not None:
            entry["subaccount"] = subaccount
        if "write" in entry["scopes"] and "read" not in entry["scopes"]:
            raise nested(400, "invalid_parameters", "invalid parameters", "the scope write needs read")
        try:
            key = read_key(self._home, account_id, entry)
        except ValueError as error:
            raise nested(400, "invalid_parameters", "invalid parameters", str(error)) from error
        document = self._document()
        next(a for a in document["accounts"] if a["account_id"] == account_id)["keys"].append(entry)
        self._write(document)
        self.keys[key.key_id] = key
        return key

    async def generate(
        self, account_id: str, name: str, algorithm: str, scopes: list[str] | None, subaccount: int | None
    ) -> tuple[ApiKey, str]:
        """A fresh pair: the registered key, and the private half as PEM (PKCS#1 for RSA, PKCS#8 for Ed25519), which
        is not kept. Raises Refused (400). An RSA pair takes its time, so that others are served meanwhile."""
        private = await asyncio.to_thread(generate, algorithm)
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key = self.register(account_id, name, public.decode(), scopes, subaccount)
        shape = (
            serialization.PrivateFormat.TraditionalOpenSSL
            if algorithm == "rsa"
            else serialization.PrivateFormat.PKCS8
        )
        pem = private.private_bytes(serialization.Encoding.PEM, shape, serialization.NoEncryption())
        return key, pem.decode()

    def delete(self, account_id: str, key_id: str) -> None:
        """End a key. Raises Refused (404) when the account has no such key."""
        key = self.keys.get(key_id)
        if key is None or key.account_id != account_id:
            raise not_found("api key")
        document = self._document()
        for account in document["accounts"]:
            account["keys"] = [item for item in account["keys"] if item["key_id"] != key_id]
        self._write(document)
        del self.keys[key_id]

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self._home / ACCOUNTS_FILE).read_text(encoding="utf-8"))
        return document

    def _write(self, document: dict[str, Any]) -> None:
        path = self._home / ACCOUNTS_FILE
        fresh = path.with_suffix(".new")
        write_private(fresh, json.dumps(document, indent=2).encode() + b"\n")
        fresh.rename(path)
        directory = os.open(self._home, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _algorithm(public_pem: str) -> str:
    """What kind of key a PEM holds; its header does not tell. Raises Refused (400)."""
    try:
        public = serialization.load_pem_public_key(public_pem.encode())
    except ValueError as error:
        raise nested(400, "invalid_parameters", "invalid parameters", "public_key is no PEM") from error
    if isinstance(public, rsa.RSAPublicKey):
        return "rsa"
    if isinstance(public, ed25519.Ed25519PublicKey):
        return "ed25519"
    raise nested(400, "invalid_parameters", "invalid parameters", "public_key is neither RSA nor Ed25519")
