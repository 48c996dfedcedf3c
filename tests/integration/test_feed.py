"""The feed turns the exchange's stream into rows: current while proven, untrusted the moment they are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connections
from django.utils import timezone

from trading.domain.book import Book
from trading.domain.fees import FeeSchedule, FeeType
from trading.domain.markets import MarketStatus, TopOfBook
from trading.domain.orders import BookSide
from trading.domain.prices import linear_grid
from trading.exchange.errors import ErrorAnswer, UnknownThere, Unreachable
from trading.exchange.events import (
    BookDelta,
    BookSnapshot,
    Connected,
    Disconnected,
    EventOpened,
    Gap,
    LifecycleChange,
    StreamEvent,
    TickerUpdate,
)
from trading.exchange.reports import EventDefinition, MarketDefinition, SeriesDefinition
from trading.market_data.catalogue import Catalogue, Listing, write_markets
from trading.market_data.feed import Chore, Feed, Pace
from trading.market_data.hub import Hub
from trading.models import Event, Market, Quote

NOW = timezone.now().replace(microsecond=0)
QUICK = Pace(write=0.02, publish=0.02, catalogue=0.02, sweep=5, publish_pause=0.05)


def definition(ticker: str, **changes: Any) -> MarketDefinition:
    base = MarketDefinition(
        ticker=ticker,
        event_ticker="SIMX",
        title=f"Will {ticker} be?",
        yes_title="It will",
        no_title="It will not",
        market_type="binary",
        status=MarketStatus.ACTIVE,
        created_at=NOW - timedelta(days=1),
        updated_at=NOW,
        open_at=NOW - timedelta(hours=1),
        close_at=NOW + timedelta(days=30),  # NOW is when the suite began, which may be long ago
        latest_expiration_at=NOW + timedelta(days=31),
        expected_expiration_at=None,
        settlement_timer=timedelta(seconds=1),
        rules_primary="If …",
        rules_secondary="",
        can_close_early=True,
        price_structure="linear_cent",
        price_ranges=({"start": "0.0000", "end": "1.0000", "step": "0.0100"},),
        grid=linear_grid(),
        quote=TopOfBook(None, None),
        last_price=None,
        volume=Decimal(0),
        volume_24h=Decimal(0),
        open_interest=Decimal(0),
        result=None,
        settlement_value=None,
        settled_at=None,
        expiration_value="",
        strike_type="greater",
        floor_strike=Decimal("4128.56"),
        cap_strike=None,
        fee_waiver_until=None,
        exchange_index=0,
    )
    return replace(base, **changes)


class FakeExchange:
    """The reads that the feed makes, over a dictionary of markets."""

    def __init__(self, *markets: MarketDefinition) -> None:
        self.held = {each.ticker: each for each in markets}
        self.is_down = False
        self.multiplier: Decimal | None = None

    def series_list(self, *, category: str | None = None) -> list[SeriesDefinition]:
        return [self.series("SIM")]

    def series(self, ticker: str) -> SeriesDefinition:
        return SeriesDefinition(
            "SIM", "Sim", "Simulated", "daily", FeeSchedule(FeeType.QUADRATIC, Decimal("0.5"))
        )

    def events(self, **filters: Any) -> list[EventDefinition]:
        return []

    def event(self, ticker: str) -> EventDefinition:
        if ticker != "SIMX":
            raise UnknownThere(ErrorAnswer(404, "not_found"))
        return EventDefinition("SIMX", "SIM", "An event", "", "", True, "MECNET", None, self.multiplier, 0)

    def series_fee_changes(self, **filters: Any) -> list[Any]:
        return []

    event_fee_changes = series_fee_changes

    def markets(self, *, status: str | None = None, **filters: Any) -> list[MarketDefinition]:
        if self.is_down:
            raise Unreachable("no connection")
        wanted = {"open": MarketStatus.ACTIVE, "unopened": MarketStatus.INITIALIZED}[str(status)]
        return [each for each in self.held.values() if each.status is wanted]

    def markets_named(self, tickers: Sequence[str]) -> list[MarketDefinition]:
        return [self.held[ticker] for ticker in tickers if ticker in self.held]


class FakeStream:
    """A stream whose events the test says; it remembers what was asked of it."""

    def __init__(self) -> None:
        self.proven_ms: int | None = None
        self.followed: set[str] = set()
        self.distrusted: list[str] = []
        self._early: list[StreamEvent] = []  # said while the feed was still loading: heard once it listens
        self.say: Callable[[StreamEvent], None] = self._early.append
        self._stop = asyncio.Event()

    @property
    def trusted(self) -> frozenset[str]:
        return frozenset(self.followed)

    async def run(self, sink: Callable[[StreamEvent], None]) -> None:
        self.say = sink
        self.prove()
        sink(Connected(0))
        for event in self._early:
            sink(event)
        await self._stop.wait()

    async def stop(self) -> None:
        self._stop.set()

    async def add_markets(self, channel: str, tickers: Iterable[str]) -> None:
        self.followed |= set(tickers)

    async def remove_markets(self, channel: str, tickers: Iterable[str]) -> None:
        self.followed -= set(tickers)

    def distrust(self, ticker: str) -> None:
        self.distrusted.append(ticker)

    def prove(self, seconds: float = 0) -> datetime:
        moment = NOW + timedelta(seconds=seconds)
        self.proven_ms = int(moment.timestamp() * 1000)
        return moment


class Running:
    def __init__(self, feed: Feed, stream: FakeStream, exchange: FakeExchange) -> None:
        self.feed, self.stream, self.exchange = feed, stream, exchange
        self.task = asyncio.create_task(feed.run())
        self.ready = 0
        self.ticks: list[dict[str, Any]] = []

    async def ended(self) -> None:
        """Wait until the feed has ended by itself."""
        done, _ = await asyncio.wait({self.task}, timeout=30)
        assert done, "the feed goes on"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the rows say so."""
        async with asyncio.timeout(30):
            while not await sync_to_async(condition)():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def feeding(
    exchange: FakeExchange, *, redis_is_up: bool = True, **options: Any
) -> AsyncIterator[Running]:
    stream = FakeStream()

    def open_stream(channels: dict[Any, Collection[str] | None], **_: Any) -> FakeStream:
        return stream

    def publish(topic: str, payload: dict[str, Any]) -> bool:
        running.ticks.append(payload)
        return redis_is_up

    def on_ready() -> None:
        running.ready += 1

    options = {"pace": QUICK, **options}
    feed = Feed(exchange, open_stream, on_ready, publish=publish, **options)  # type: ignore[arg-type]
    running = Running(feed, stream, exchange)
    try:
        yield running
    finally:
        feed.stop()
        await running.task


def snapshot(ticker: str, bid: int = 4000, ask: int = 4200) -> BookSnapshot:
    return BookSnapshot(ticker, ((bid, 1000), (bid - 100, 500)), ((ask, 700),), int(NOW.timestamp() * 1000))


def quote(ticker: str) -> Quote | None:
    return Quote.objects.filter(market_id=ticker).first()


pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def no_connection_stays_open() -> AsyncIterator[None]:
    """The thread in which `sync_to_async` works has a database connection of its own."""
    yield
    await sync_to_async(connections.close_all)()


async def test_it_writes_the_catalogue_with_the_fees_of_the_series() -> None:
    async with feeding(
        FakeExchange(definition("A"), definition("B", status=MarketStatus.FINALIZED))
    ) as running:
        await running.until(Market.objects.filter(ticker="A").exists)
        row = await Market.objects.aget(ticker="A")
    assert (row.series_ticker, row.event_title, row.category) == ("SIM", "An event", "Simulated")
    assert row.fees == FeeSchedule(FeeType.QUADRATIC, Decimal("0.5"))
    assert row.floor_strike == "4128.56"
    assert row.mutually_exclusive
    assert running.stream.followed == {"A"}


async def test_a_book_that_does_not_come_keeps_the_desk_from_starting_for_a_while_only() -> None:
    """Naive: one market whose snapshot is refused, or crossed, and the feed is never ready."""
    patience = replace(QUICK, patience=0.2)
    async with feeding(FakeExchange(definition("A"), definition("B")), pace=patience) as running:
        running.stream.say(snapshot("A"))
        await running.until(lambda: running.ready == 1)
        assert not await sync_to_async(Quote.objects.filter(market="B", trusted=True).exists)()


async def test_a_quote_is_written_from_its_book_and_proven_while_it_is_quiet() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(lambda: quote("A") is not None)
        assert running.ready == 0
        running.stream.say(snapshot("A"))
        await running.until(lambda: (row := quote("A")) is not None and row.trusted)
        row = await Quote.objects.aget(market_id="A")
        assert (row.yes_bid, row.yes_ask, row.yes_bid_quantity) == (
            Decimal("0.4"),
            Decimal("0.42"),
            Decimal(10),
        )
        assert row.levels == {"bids": [["0.4000", "10.00"], ["0.3900", "5.00"]], "asks": [["0.4200", "7.00"]]}
        later = running.stream.prove(30)
        await running.until(lambda: (row := quote("A")) is not None and row.verified_at == later)
        row = await Quote.objects.aget(market_id="A")
        assert row.as_of == NOW.astimezone(UTC)
        assert row.proven_at == later
        assert running.ready == 1


@pytest.mark.parametrize("event", [Gap("orderbook_delta", "lost", ("A",)), Disconnected("silent", 1.0)])
async def test_a_quote_without_proof_has_no_price(event: StreamEvent) -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(lambda: quote("A") is not None)
        running.stream.say(snapshot("A"))
        await running.until(lambda: (row := quote("A")) is not None and row.trusted)
        running.stream.say(event)
        running.stream.prove(60)
        await running.until(lambda: (row := quote("A")) is not None and not row.trusted)
        row = await Quote.objects.aget(market_id="A")
        assert (row.yes_bid, row.yes_ask, row.proven_at, row.verified_at) == (None, None, None, None)
        running.stream.say(snapshot("A", bid=4100))
        await running.until(lambda: (row := quote("A")) is not None and row.yes_bid == Decimal("0.41"))


async def test_a_quote_of_an_earlier_feed_is_distrusted_before_anything_else() -> None:
    exchange = FakeExchange()
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(lambda: quote("A") is not None)
    await Quote.objects.filter(market_id="A").aupdate(trusted=True, yes_bid=Decimal("0.4"), verified_at=NOW)
    exchange.is_down = True
    async with feeding(exchange) as running:
        await running.until(lambda: (row := quote("A")) is not None and not row.trusted)


async def test_stopping_leaves_no_quote_that_looks_alive() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(lambda: quote("A") is not None)
        running.stream.say(snapshot("A"))
        await running.until(lambda: (row := quote("A")) is not None and row.trusted)
    assert not await Quote.objects.filter(trusted=True).aexists()


async def test_an_impossible_change_distrusts_the_book_and_fetches_it_anew() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(lambda: quote("A") is not None)
        running.stream.say(snapshot("A"))
        running.stream.say(BookDelta("A", BookSide.BID, 4000, -5000, None))
        await running.until(lambda: (row := quote("A")) is not None and not row.trusted)
    assert running.stream.distrusted == ["A"]


async def test_a_market_that_closes_is_dropped_and_one_that_is_created_is_followed() -> None:
    exchange = FakeExchange(definition("A"))
    async with feeding(exchange) as running:
        await running.until(lambda: quote("A") is not None)
        running.stream.say(snapshot("A"))
        await running.until(lambda: (row := quote("A")) is not None and row.trusted)
        exchange.held["A"] = definition(
            "A", status=MarketStatus.DETERMINED, result="yes", settlement_value=Decimal(1)
        )
        exchange.held["B"] = definition("B")
        for ticker, kind in (("A", "determined"), ("B", "created")):
            running.stream.say(LifecycleChange(kind, ticker, None, None, None, None, None, None))
        await running.until(lambda: Market.objects.filter(ticker="B").exists() and quote("B") is not None)
        await running.until(lambda: (row := quote("A")) is not None and not row.trusted)
        row = await Market.objects.aget(ticker="A")
        assert (row.status, row.result, row.settlement_value) == ("determined", "yes", Decimal(1))
        assert running.stream.followed == {"B"}


def change(kind: str, ticker: str = "A", **said: Any) -> LifecycleChange:
    nothing = dict.fromkeys(("open_at", "close_at", "result", "settlement_value", "price_ranges", "at_ms"))
    return LifecycleChange(kind=kind, ticker=ticker, **(nothing | said))


async def test_new_bands_of_a_message_hold_at_once_although_reads_lag_behind_it() -> None:
    finer = ({"start": "0.0000", "end": "1.0000", "step": "0.0010"},)
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(Market.objects.filter(ticker="A").exists)
        running.stream.say(change("price_level_structure_updated", price_ranges=finer))
        await running.until(lambda: Market.objects.get(ticker="A").price_ranges == list(finer))
        assert (await Market.objects.aget(ticker="A")).grid.holds(Decimal("0.505"))


async def test_rows_that_could_not_be_written_come_the_next_time_and_no_write_names_a_market_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Naive: what was read is known and so never changed again; PostgreSQL refuses a row twice in one statement."""
    written: list[list[str]] = []

    def write(listings: Iterable[Listing]) -> None:
        held = list(listings)
        written.append([each.market.ticker for each in held])
        if len(written) == 1:
            raise OperationalError("the database is locked")
        write_markets(held)

    monkeypatch.setattr("trading.market_data.feed.write_markets", write)
    finer = ({"start": "0.0000", "end": "1.0000", "step": "0.0010"},)
    exchange = FakeExchange(definition("A"))
    async with feeding(exchange) as running:
        await running.until(Market.objects.filter(ticker="A").exists)
        exchange.held["A"] = definition("A", rules_primary="If and only if …")
        running.stream.say(change("price_level_structure_updated", price_ranges=finer))
        await running.until(lambda: Market.objects.get(ticker="A").price_ranges == list(finer))
    assert written[:2] == [["A"], ["A"]]
    assert all(len(names) == len(set(names)) for names in written)


async def test_a_chore_that_breaks_leaves_the_books_alone() -> None:
    looks: list[int] = []

    def broken() -> None:
        looks.append(1)
        raise KeyError("an odd answer")

    async with feeding(FakeExchange(definition("A")), chores=(Chore(every=0.01, work=broken),)) as running:
        await running.until(lambda: len(looks) > 3 and Market.objects.filter(ticker="A").exists())
        running.stream.say(snapshot("A"))
        await running.until(lambda: bool((found := quote("A")) and found.yes_bid))


def test_the_catalogue_forgets_a_market_that_is_final_once_it_was_told() -> None:
    """Naive: every market that ever was stays in memory, thousands a day."""
    exchange = FakeExchange(definition("A"), definition("B"))
    catalogue = Catalogue(exchange)  # type: ignore[arg-type]
    catalogue.sweep()
    exchange.held["A"] = definition("A", status=MarketStatus.FINALIZED)
    assert [each.market.status for each in catalogue.sweep()] == [MarketStatus.FINALIZED]
    assert catalogue.sweep() == []
    assert list(catalogue.listings) == ["B"]


async def test_bands_that_nobody_can_read_change_nothing() -> None:
    async with feeding(FakeExchange(definition("A"), definition("B"))) as running:
        await running.until(Market.objects.filter(ticker="A").exists)
        before = (await Market.objects.aget(ticker="A")).price_ranges
        running.stream.say(change("price_level_structure_updated", price_ranges=({"start": "x"},)))
        running.stream.say(change("deactivated", "B"))
        await running.until(Market.objects.filter(ticker="B", status="inactive").exists)
        assert (await Market.objects.aget(ticker="A")).price_ranges == before


async def test_a_paused_market_is_dropped_and_comes_back_when_it_is_activated() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(lambda: running.stream.followed == {"A"})
        running.stream.say(change("deactivated"))
        await running.until(lambda: running.stream.followed == set())
        running.exchange.held["A"] = definition("A", status=MarketStatus.INACTIVE)
        running.stream.say(change("activated"))
        await running.until(lambda: running.stream.followed == {"A"})


async def test_a_closed_market_may_reopen() -> None:
    past = NOW - timedelta(seconds=5)
    closed = definition("A", status=MarketStatus.CLOSED, close_at=past)
    async with feeding(FakeExchange(closed, definition("B"))) as running:
        await running.until(lambda: running.stream.followed == {"B"})
        running.exchange.held["A"] = definition("A")
        running.stream.say(change("close_date_updated", close_at=NOW + timedelta(days=30)))
        await running.until(lambda: running.stream.followed == {"A", "B"})


async def test_a_determined_market_shows_its_result_before_it_is_final() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(Market.objects.filter(ticker="A").exists)
        running.exchange.held["A"] = definition(
            "A", status=MarketStatus.DETERMINED, result="yes", settlement_value=Decimal(1)
        )
        running.stream.say(change("determined", result="yes", settlement_value=Decimal(1)))
        await running.until(Market.objects.filter(ticker="A", status="determined").exists)
        row = await Market.objects.aget(ticker="A")
        assert (row.result, row.settlement_value, row.settled_at) == ("yes", Decimal(1), None)


async def test_series_and_events_have_rows_of_their_own() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(Market.objects.filter(ticker="A").exists)
    event = await Event.objects.select_related("series").aget(ticker="SIMX")
    assert (event.title, event.mutually_exclusive, event.series.fee_multiplier) == ("An event", True, "0.5")


async def test_what_an_announcement_of_an_event_names_is_read_again() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(Market.objects.filter(ticker="A").exists)
        running.exchange.multiplier = Decimal("0.25")
        running.stream.say(EventOpened("SIMX", "SIM"))
        await running.until(Event.objects.filter(fee_multiplier_override="0.25").exists)
        assert (await Market.objects.aget(ticker="A")).fees.multiplier == Decimal("0.25")


async def test_a_market_opens_at_its_time_without_any_message() -> None:
    opening = definition("A", status=MarketStatus.INITIALIZED, open_at=NOW - timedelta(seconds=1))
    exchange = FakeExchange(opening)
    async with feeding(exchange) as running:
        await running.until(Market.objects.filter(ticker="A", status="initialized").exists)
        assert running.stream.followed == set()
        exchange.held["A"] = replace(opening, status=MarketStatus.ACTIVE)
        await running.until(Market.objects.filter(ticker="A", status="active").exists)
        await running.until(lambda: running.stream.followed == {"A"})


async def test_an_exchange_that_is_away_at_the_start_is_waited_for() -> None:
    exchange = FakeExchange(definition("A"))
    exchange.is_down = True
    async with feeding(exchange) as running:
        await asyncio.sleep(0.1)
        assert not await Market.objects.aexists()
        exchange.is_down = False
        await running.until(lambda: quote("A") is not None)


async def test_the_ticker_channel_moves_last_price_and_volume() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await running.until(lambda: quote("A") is not None)
        update = TickerUpdate("A", TopOfBook(None, None), Decimal("0.41"), Decimal("7.5"), Decimal(3), 1)
        running.stream.say(update)
        await running.until(Market.objects.filter(ticker="A", last_price=Decimal("0.41")).exists)
        assert (await Market.objects.aget(ticker="A")).volume == Decimal("7.5")


@pytest.mark.parametrize("redis_is_up", [True, False])
async def test_prices_are_published_and_rows_are_written_with_redis_dead_too(redis_is_up: bool) -> None:
    async with feeding(FakeExchange(definition("A")), redis_is_up=redis_is_up) as running:
        await running.until(lambda: quote("A") is not None)
        running.stream.say(snapshot("A"))
        await running.until(lambda: (row := quote("A")) is not None and row.trusted)
        running.stream.say(BookDelta("A", BookSide.ASK, 4100, 100, None))
        await running.until(lambda: (row := quote("A")) is not None and row.yes_ask == Decimal("0.41"))
        await running.until(
            lambda: any(tick["yes_ask"] == "0.4100" for batch in running.ticks for tick in batch["quotes"])
        )
    [tick] = running.ticks[-1]["quotes"]
    assert (tick["yes_bid"], tick["no_bid"], tick["no_ask"]) == ("0.4000", "0.5900", "0.6000")


def test_a_hub_gives_each_change_once_and_takes_back_what_could_not_be_written() -> None:
    hub = Hub(on_fault=lambda _: None)
    hub.follow(["A"])
    hub.apply(snapshot("A"))
    [touch] = hub.take_unwritten()
    assert touch.is_trusted
    assert hub.take_unwritten() == []
    hub.put_back([touch])
    hub.apply(BookDelta("A", BookSide.BID, 4000, -1000, None))
    [later] = hub.take_unwritten()
    assert later.top.yes_bid == Decimal("0.39")
    assert isinstance(hub.books["A"], Book)
