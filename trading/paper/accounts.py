"""Accounts and API keys of a paper exchange: `accounts.json` in its home, made with fresh keys at the first
start.

    {"accounts": [{"account_id", "name", "balance",
                   "keys": [{"key_id", "name", "key_file", "algorithm": "rsa"|"ed25519", "scopes": [...],
                             "subaccount": 0..63}]}]}

`key_file` is relative to the home and holds the private key (PEM, mode 0600), which a client of this paper
exchange uses; the exchange itself only takes the public key from it. An entry may give `public_key` (PEM)
instead. `subaccount` is optional: it locks the key to one.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

ACCOUNTS_FILE = "accounts.json"
FIRST_BALANCE = Decimal("10000.00")
READ_SCOPES = ("read",)
TRADE_SCOPES = ("read", "write::trade")
MOST_SUBACCOUNTS = 63
KNOWN_SCOPES = frozenset(
    {
        *("read", "write", "read::portfolio_balance", "read::block_trade_accept", "write::trade"),
        *("write::transfer", "write::block_trade_accept", "write::fcm_risk"),
    }
)


class AccountsUnreadable(Exception):
    """`accounts.json` or a key that it names cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One registered key: whose it is, how it signs, what it may do."""

    key_id: str
    name: str
    account_id: str
    public_key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    scopes: frozenset[str]
    subaccount: int | None = None  # the only one that the key may read and trade on

    def may(self, scope: str) -> bool:
        """Whether the key holds a scope or its parent (`write` holds `write::trade`)."""
        return scope in self.scopes or scope.partition("::")[0] in self.scopes


@dataclass(frozen=True, slots=True)
class Member:
    """An account as `accounts.json` describes it."""

    account_id: str
    name: str
    balance: Decimal
    keys: tuple[ApiKey, ...]


def load_or_make(home: Path) -> list[Member]:
    """The members of this exchange; makes the first one with its two keys in an empty home. Raises
    AccountsUnreadable."""
    path = home / ACCOUNTS_FILE
    if not path.exists():
        write_private(path, json.dumps(_first_accounts(home), indent=2).encode() + b"\n")
    try:
        document = json.loads(path.read_text())
        members = [_member(home, item) for item in document["accounts"]]
    except (KeyError, TypeError, ValueError, InvalidOperation, OSError) as error:
        raise AccountsUnreadable(f"{path}: {error!r}") from error
    _require_unique([member.account_id for member in members], path)
    _require_unique([key.key_id for member in members for key in member.keys], path)
    return members


def make_key(home: Path, name: str, algorithm: str, scopes: tuple[str, ...]) -> dict[str, Any]:
    """Generate a key pair, write the private key to `NAME.pem` (0600) and return its entry for
    `accounts.json`."""
    pem = generate(algorithm).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(home / f"{name}.pem", pem)
    return {
        "key_id": str(uuid4()),
        "name": name,
        "key_file": f"{name}.pem",
        "algorithm": algorithm,
        "scopes": list(scopes),
    }


def generate(algorithm: str) -> rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
    """A fresh private key: `rsa` (2048 bits) or `ed25519`. Raises ValueError."""
    if algorithm == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    raise ValueError(f"unknown algorithm {algorithm!r}")


def _first_accounts(home: Path) -> dict[str, Any]:
    keys = [
        make_key(home, "desk-read", "rsa", READ_SCOPES),
        make_key(home, "desk-trade", "ed25519", TRADE_SCOPES),
    ]
    desk = {"account_id": "desk", "name": "desk", "balance": f"{FIRST_BALANCE:f}", "keys": keys}
    return {"accounts": [desk]}


def _member(home: Path, item: dict[str, Any]) -> Member:
    account_id = str(item["account_id"])
    keys = tuple(read_key(home, account_id, key) for key in item["keys"])
    balance = Decimal(item["balance"])
    if balance < 0:
        raise ValueError(f"account {account_id} begins below zero")
    return Member(account_id, str(item["name"]), balance, keys)


def read_key(home: Path, account_id: str, item: dict[str, Any]) -> ApiKey:
    """A key as `accounts.json` describes it. Raises ValueError, KeyError or OSError."""
    scopes = frozenset(item["scopes"])
    if not scopes <= KNOWN_SCOPES:
        raise ValueError(f"key {item['key_id']} has unknown scopes {sorted(scopes - KNOWN_SCOPES)}")
    public = _public_key(home, item)
    expected = rsa.RSAPublicKey if item["algorithm"] == "rsa" else ed25519.Ed25519PublicKey
    if not isinstance(public, rsa.RSAPublicKey | ed25519.Ed25519PublicKey) or not isinstance(
        public, expected
    ):
        raise ValueError(f"key {item['key_id']} is no {item['algorithm']} key")
    subaccount = item.get("subaccount")
    if subaccount is not None and not 0 <= int(subaccount) <= MOST_SUBACCOUNTS:
        raise ValueError(f"key {item['key_id']} is locked to no subaccount that can be: {subaccount}")
    return ApiKey(
        str(item["key_id"]),
        str(item.get("name", "")),
        account_id,
        public,
        scopes,
        None if subaccount is None else int(subaccount),
    )


def _public_key(home: Path, item: dict[str, Any]) -> PublicKeyTypes:
    try:
        if "public_key" in item:
            return serialization.load_pem_public_key(item["public_key"].encode())
        pem = (home / item["key_file"]).read_bytes()
        return serialization.load_pem_private_key(pem, password=None).public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, and have it on the disk before it is needed."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(content)
        file.flush()
        os.fsync(fd)


def _require_unique(names: list[str], path: Path) -> None:
    if len(set(names)) != len(names):
        raise AccountsUnreadable(f"{path}: an id appears twice")
