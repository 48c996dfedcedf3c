"""TLS to the exchange: who does not prove to be it hears nothing from us, and says why in plain words."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.authorities import Authority
from tests.exchanges import paper_exchange
from tests.scripted_exchange import Ledger, ScriptedExchange, answers, serving
from trading.exchange import tls
from trading.exchange.auth import Signer, open_signer
from trading.exchange.errors import AuthorityRefused, Unreachable, Untrusted
from trading.exchange.events import BookSnapshot, Disconnected
from trading.exchange.market_data import open_market_data
from trading.exchange.stream import Stream
from trading.exchange.transport import Transport, WriteLine
from trading.exchange.venue_clock import wall_clock_ms

pytestmark = pytest.mark.slow

Event = TypeVar("Event")
KEY = Signer("of-a-test", Ed25519PrivateKey.generate())


@pytest.fixture(autouse=True)
def trusts_nobody_else() -> Iterator[None]:
    yield
    tls.trust_also(None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@contextlib.contextmanager
def secured(cert: tuple[Path, Path]) -> Iterator[ScriptedExchange]:
    """A scripted exchange behind TLS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*cert)
    with serving(answers({"well": True}), tls=context) as exchange:
        yield exchange


def test_a_certificate_of_the_named_authority_is_trusted(authority: Authority) -> None:
    tls.trust_also(authority.file)
    with secured(authority.issue()) as exchange:
        assert Transport(exchange.url).get("/exchange/status").status == 200


def test_without_the_setting_the_same_certificate_is_refused(authority: Authority) -> None:
    """The control: that the setting, and nothing else, made the other test pass."""
    with secured(authority.issue()) as exchange, pytest.raises(Untrusted, match="not signed by an authority"):
        Transport(exchange.url).get("/exchange/status")


@pytest.mark.parametrize(
    ("host", "since", "until", "words"),
    [
        ("localhost", timedelta(days=-1), timedelta(days=1), "for another address"),
        ("127.0.0.2", timedelta(days=-1), timedelta(days=1), "for another address"),
        ("127.0.0.1", timedelta(days=-3), timedelta(days=-1), "has expired"),
        ("127.0.0.1", timedelta(days=1), timedelta(days=3), "not valid yet"),
    ],
)
def test_each_fault_of_a_certificate_is_named_and_no_request_leaves(
    authority: Authority, host: str, since: timedelta, until: timedelta, words: str
) -> None:
    tls.trust_also(authority.file)
    with secured(authority.issue(host, since=since, until=until)) as exchange:
        with pytest.raises(Untrusted, match=words):
            Transport(exchange.url, KEY).get("/portfolio/balance")
        with pytest.raises(Untrusted, match=words):
            WriteLine(exchange.url, KEY).send("POST", "/orders", signed_ts_ms=wall_clock_ms(), body=b"{}")
        assert exchange.requests == []


def test_another_authority_of_the_same_name_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    tls.trust_also(Authority(tmp_path / "impostor").file)
    with secured(authority.issue()) as exchange, pytest.raises(Untrusted):
        Transport(exchange.url, KEY).get("/portfolio/balance")


def test_an_exchange_that_speaks_no_tls_hears_nothing_in_the_clear(authority: Authority) -> None:
    tls.trust_also(authority.file)
    with serving(answers({"well": True})) as exchange:
        secure = exchange.url.replace("http://", "https://")
        with pytest.raises(Unreachable):
            Transport(secure, KEY).get("/portfolio/balance")
        with pytest.raises(Unreachable):
            WriteLine(secure, KEY).send("POST", "/orders", signed_ts_ms=wall_clock_ms(), body=b"{}")
        assert exchange.requests == []


def test_a_file_without_an_authority_is_refused_by_name(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n", encoding="utf-8")
    tls.trust_also(empty)
    with pytest.raises(AuthorityRefused, match=r"empty\.pem"):
        Transport("https://127.0.0.1:1/trade-api/v2")


def test_no_context_of_ours_leaves_verification_out(authority: Authority) -> None:
    for trusted in (None, authority.file):
        tls.trust_also(trusted)
        made = tls.context()
        assert made.verify_mode is ssl.CERT_REQUIRED and made.check_hostname


def test_client_and_stream_meet_the_paper_exchange_over_tls(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue()
    options = ("--tls-cert", str(cert), "--tls-key", str(key), "--identity", "demo")
    with paper_exchange(tmp_path / "demo", *options) as exchange:
        assert exchange.rest_url.startswith("https://") and exchange.ws_url.startswith("wss://")
        refused = asyncio.run(_first(Stream(exchange.ws_url, KEY, {"ticker": None}), Disconnected))
        assert "not signed by an authority" in refused.reason
        tls.trust_also(authority.file)
        market = open_market_data(exchange.rest_url).markets(status="open")[0]
        signer = open_signer(*exchange.key("desk-read"))
        stream = Stream(exchange.ws_url, signer, {"orderbook_delta": [market.ticker]})
        assert asyncio.run(_first(stream, BookSnapshot)).ticker == market.ticker


async def _first(stream: Stream, kind: type[Event]) -> Event:
    """The first event of a kind, then the end of the stream."""
    ledger = Ledger()

    async def until_heard() -> None:
        async with asyncio.timeout(20):
            while not ledger.of(kind):
                await asyncio.sleep(0.01)
        await stream.stop()

    await asyncio.gather(stream.run(ledger), until_heard())
    return cast("Event", ledger.of(kind)[0])
