"""The real paper exchange in a process of its own, with a stage per run: an account nobody else has, and its markets.

It counts every order request at its own door, by the account and the client's id, whatever becomes of it; and it tells
the truth of an account, which no lag and no planned fault touches. Hundreds of runs share one: starting an exchange
costs more than a run.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import urllib3
from aiohttp import web

from tests.paper_venue import QuietWorld, Signer
from trading.domain.orders import BookSide, TimeInForce
from trading.paper import auth, entry, server
from trading.paper.accounts import ApiKey, make_key, read_key
from trading.paper.records import AccountOpened
from trading.paper.server import PaperServer
from trading.paper.service import SERVICE, Handler
from trading.paper.tickets import Ticket
from trading.paper.wire import rfc3339

STAGE, TRUTH, LIQUIDITY, BY_HAND = "/__stage", "/__truth", "/__liquidity", "/__by_hand"
BY_HAND_ID = "by-hand"
CREATE = f"{server.REST_PATH}/portfolio/events/orders"
OPENING = Decimal(10_000)
BID, ASK = 4800, 5000  # ticks: where the house stands
DEEP = 1_000_000  # lots
MARKETS = 4  # of a stage, unless it is asked for more
START_WITHIN = 30


class Stage(msgspec.Struct, frozen=True):
    """What one run is given: the id of its account's key, which may read and trade, and its markets."""

    key_id: str
    tickers: list[str]


class ToldOrder(msgspec.Struct, frozen=True):
    """One order as the exchange's own ledger has it; counts in contracts."""

    order_id: str
    client_order_id: str
    ticker: str
    status: str  # resting, executed, canceled
    filled: Decimal
    remaining: Decimal
    expired: bool


class Truth(msgspec.Struct, frozen=True):
    """An account as it is. `posts`: order requests that arrived, by the client's id."""

    orders: list[ToldOrder]
    positions: dict[str, Decimal]
    cash: Decimal
    posts: dict[str, int]


@dataclass
class Backstage:
    """Inside the exchange's process: makes stages and counts requests."""

    home: Path
    entry: dict[str, Any]
    posts: dict[str, Counter[str]] = field(default_factory=dict)
    stages: int = 0

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and request.path == CREATE:
            told = msgspec.json.decode(await request.read(), type=dict[str, Any])
            arrived = self.posts.setdefault(request.headers[auth.KEY_HEADER], Counter())
            arrived[told["client_order_id"]] += 1
        return await handler(request)

    async def stage(self, request: web.Request) -> web.Response:
        """Open an account and its markets, with the house on both sides of each."""
        service, exchange = request.app[SERVICE], request.app[SERVICE].exchange
        self.stages += 1
        name = f"RUN{self.stages}"
        exchange.open_account(AccountOpened(name, name, OPENING, exchange.now_ms()))
        key: ApiKey = read_key(self.home, name, {**self.entry, "key_id": name})
        service.keyring.keys[name] = key
        exchange.add_event({"event_ticker": name, "series_ticker": "TEST", "title": "A run"})
        now = exchange.now()
        times = {
            "open_time": rfc3339(now - timedelta(seconds=1)),
            "close_time": rfc3339(now + timedelta(hours=1)),
        }
        tickers = [f"{name}-{number}" for number in range(int(request.query["markets"]))]
        for ticker in tickers:
            exchange.add_market({"ticker": ticker, "event_ticker": name, **times})
            exchange.house_submit("maker", ticker, BookSide.BID, BID, DEEP)
            exchange.house_submit("maker", ticker, BookSide.ASK, ASK, DEEP)
        return _told(Stage(name, tickers))

    async def truth(self, request: web.Request) -> web.Response:
        name = request.query["key_id"]
        account = request.app[SERVICE].exchange.ledger.accounts[name]
        orders = [
            ToldOrder(
                o.order_id,
                o.client_order_id,
                o.ticker,
                o.status,
                _contracts(o.filled_lots),
                _contracts(o.remaining_lots),
                o.expires_ms is not None and o.updated_ms >= o.expires_ms,
            )
            for o in account.orders.values()
        ]
        held = {p.ticker: _contracts(p.lots) for p in account.positions() if p.lots}
        return _told(Truth(orders, held, account.purse().balance, dict(self.posts.get(name, {}))))

    async def liquidity(self, request: web.Request) -> web.Response:
        """The house's offers of one market become these: `{"ticker", "asks": [[ticks, lots]]}`."""
        told = await request.json()
        exchange = request.app[SERVICE].exchange
        exchange.house_cancel_all("maker", told["ticker"])
        for ticks, lots in told["asks"]:
            exchange.house_submit("maker", told["ticker"], BookSide.ASK, ticks, lots)
        return web.Response(status=204)

    async def by_hand(self, request: web.Request) -> web.Response:
        """The account's owner places an order elsewhere: it came through no door of ours."""
        ticket = Ticket(
            ticker=request.query["ticker"],
            side=BookSide.BID,
            price="0.0200",
            count="5.00",
            time_in_force=TimeInForce.GTC,
            self_trade_prevention_type="taker_at_cross",
            client_order_id=BY_HAND_ID,
        )
        entry.create(request.app[SERVICE].exchange, request.query["key_id"], ticket)
        return web.Response(status=204)


@dataclass(frozen=True)
class Venue:
    """A running one, as a client of its levers sees it."""

    rest_url: str
    ws_url: str
    key_file: Path
    process: Any

    def stage(self, markets: int = MARKETS) -> Stage:
        """A fresh account with markets of its own; planned faults of earlier runs are over."""
        self._ask("DELETE", "/__faults")
        return msgspec.json.decode(self._ask("POST", f"{STAGE}?markets={markets}"), type=Stage)

    def plan(self, rows: list[dict[str, Any]], seed: int = 0) -> None:
        self._ask("POST", "/__faults", {"seed": seed, "faults": rows})

    def met(self) -> Counter[str]:
        """How often each kind of planned fault has happened since the stage was made."""
        shown = msgspec.json.decode(self._ask("GET", "/__faults"), type=dict[str, list[dict[str, Any]]])[
            "faults"
        ]
        return sum((Counter({row["kind"]: row["happened"]}) for row in shown), Counter[str]())

    def forget(self) -> None:
        """No fault happens any more."""
        self._ask("DELETE", "/__faults")

    def control(self, **act: Any) -> None:
        self._ask("POST", "/__control", act)

    def offer(self, ticker: str, *asks: tuple[int, int]) -> None:
        """Leave these offers of the house in a market, (ticks, lots) each, and nothing else."""
        self._ask("POST", LIQUIDITY, {"ticker": ticker, "asks": asks})

    def order_by_hand(self, stage: Stage, ticker: str) -> None:
        """Place an order of the account that is none of the desk's."""
        self._ask("POST", f"{BY_HAND}?key_id={stage.key_id}&ticker={ticker}")

    def truth(self, stage: Stage) -> Truth:
        return msgspec.json.decode(self._ask("GET", f"{TRUTH}?key_id={stage.key_id}"), type=Truth)

    def settings(self, stage: Stage) -> dict[str, Any]:
        """The settings with which a process of ours trades on a stage."""
        key = {"KEY_ID": stage.key_id, "KEY_FILE": self.key_file}
        named = {f"KALSHI_{role}_{name}": value for role in ("READ", "TRADE") for name, value in key.items()}
        return {"KALSHI_REST_URL": self.rest_url, "KALSHI_WS_URL": self.ws_url, **named}

    def signer(self, stage: Stage) -> Signer:
        """Signs as the run's account, for a test that sends by itself."""
        from cryptography.hazmat.primitives import serialization

        private = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
        return Signer(stage.key_id, private)  # type: ignore[arg-type]

    def _ask(self, method: str, path: str, body: Any = None) -> bytes:
        origin = self.rest_url.removesuffix(server.REST_PATH)
        # A line of its own: one that a fork has inherited may hold the answer to somebody else's question.
        with urllib3.PoolManager() as pool:
            answer = pool.request(method, origin + path, json=body, retries=False, timeout=30.0)
        assert answer.status < 300, (method, path, answer.status, answer.data)
        return answer.data


@contextmanager
def venues(count: int, *, oldest_ms: int, newest_ms: int | None = None) -> Iterator[list[Venue]]:
    """Start so many exchanges and end them after the block. `oldest_ms`: how old a signature they let in."""
    context = multiprocessing.get_context("fork")
    fence, started = (oldest_ms, auth.NEWEST_MS if newest_ms is None else newest_ms), []
    # The folders are ours and not the exchanges': those are killed, and clear nothing away.
    with tempfile.TemporaryDirectory(prefix="kops-venues-") as homes:
        try:
            for number in range(count):
                (home := Path(homes) / str(number)).mkdir()
                mine, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, fence, home), daemon=True)
                process.start()
                started.append((process, mine))
            yield [_opened(process, pipe) for process, pipe in started]
        finally:
            for process, _ in started:
                process.kill()
                process.join(10)


def _opened(process: Any, pipe: Any) -> Venue:
    assert pipe.poll(START_WITHIN), "an exchange did not start"
    rest_url, ws_url, key_file = pipe.recv()
    return Venue(rest_url, ws_url, Path(key_file), process)


def _serve(pipe: Any, fence: tuple[int, int], home: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    auth.OLDEST_MS, auth.NEWEST_MS = fence
    asyncio.run(_run(home, pipe))
    os._exit(0)


async def _run(home: Path, pipe: Any) -> None:
    backstage = Backstage(home, make_key(home, "run", "ed25519", ("read", "write::trade")))
    exchange = PaperServer(home, QuietWorld(), tier="prestige", with_faults=True)
    with _door(backstage):
        await exchange.start()
    pipe.send((exchange.rest_url, exchange.ws_url, str(home / "run.pem")))
    watching = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), watching.set)  # whoever started us has died
    await exchange.run(watching)


@contextmanager
def _door(backstage: Backstage) -> Iterator[None]:
    """Put the counter before everything else, planned faults included, and our levers beside theirs."""
    usual = server.application

    def application(service: Any) -> web.Application:
        app = usual(service)
        app.middlewares.insert(0, backstage.count)
        app.router.add_post(STAGE, backstage.stage)
        app.router.add_get(TRUTH, backstage.truth)
        app.router.add_post(LIQUIDITY, backstage.liquidity)
        app.router.add_post(BY_HAND, backstage.by_hand)
        return app

    server.application = application
    try:
        yield
    finally:
        server.application = usual


def _contracts(lots: int) -> Decimal:
    return Decimal(lots) / 100


def _told(what: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(what), content_type="application/json")
