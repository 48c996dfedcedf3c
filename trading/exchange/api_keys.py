"""Making and ending the account's API keys by REST (API.md 12). Its list is `Account.api_keys`.

Needs a key with scope `write`. A generated private key comes once; better make the pair here and send the public half.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal
from urllib.parse import quote

import msgspec

from trading.exchange import account_messages as messages
from trading.exchange.auth import Signer
from trading.exchange.errors import UnreadableAnswer
from trading.exchange.link import Link
from trading.exchange.outcomes import DoneOutcome, KeyCreated, KeyOutcome
from trading.exchange.transport import Answer, WriteLine
from trading.exchange.writes import Write, done, send_once

Scope = Literal["read", "write", "read::portfolio_balance", "write::trade", "write::transfer"]
KeyType = Literal["rsa", "ed25519"]


class ApiKeys:
    """Writes of API keys. Each is sent once; after an unknown outcome look at the list for the key's name."""

    def __init__(self, line: WriteLine) -> None:
        self._line = line

    def create(
        self, *, name: str, public_key: str, scopes: Collection[Scope], subaccount: int | None = None
    ) -> KeyOutcome:
        """Register a public key (PEM), RSA or Ed25519; `subaccount` locks it to one."""
        body = messages.NewApiKey(name, public_key, sorted(scopes), subaccount)
        return send_once(self._line, Write("POST", "/api_keys", msgspec.json.encode(body)), _created)

    def generate(
        self, *, name: str, key_type: KeyType, scopes: Collection[Scope], subaccount: int | None = None
    ) -> KeyOutcome:
        """Have the exchange make a pair. The private half is in the outcome, and nowhere else afterwards."""
        body = messages.GeneratedApiKey(name, key_type, sorted(scopes), subaccount)
        return send_once(
            self._line, Write("POST", "/api_keys/generate", msgspec.json.encode(body)), _generated
        )

    def delete(self, key_id: str) -> DoneOutcome:
        """End a key for good. May be repeated."""
        return send_once(self._line, Write("DELETE", f"/api_keys/{quote(key_id, safe='')}"), done)

    def close(self) -> None:
        """Close the connection."""
        self._line.close()


def open_api_keys(rest_url: str, signer: Signer, *, link: Link | None = None) -> ApiKeys:
    """The API keys of the signer's account."""
    return ApiKeys(WriteLine(rest_url, signer, link=link))


def _created(answer: Answer) -> KeyCreated:
    told = msgspec.json.decode(answer.body, type=messages.CreatedApiKey)
    if not told.api_key_id:
        raise UnreadableAnswer("it names no key")
    return KeyCreated(told.api_key_id)


def _generated(answer: Answer) -> KeyCreated:
    told = msgspec.json.decode(answer.body, type=messages.CreatedApiKey)
    if not told.api_key_id or not told.private_key:
        raise UnreadableAnswer("it names no key, or holds no private one")
    return KeyCreated(told.api_key_id, told.private_key)
