"""Hours, fees and candles asked of the real paper exchange over its socket, with its own levers pulled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal

import pytest
import urllib3
from django.utils import timezone

from tests import factories
from tests.exchanges import PaperExchange, paper_exchange
from trading.domain.hours import Standing
from trading.exchange.market_data import MarketData, open_market_data
from trading.market_data import backfill
from trading.market_data.backfill import Backfill, made_of
from trading.market_data.catalogue import Catalogue, write_markets
from trading.market_data.charts import history
from trading.market_data.exchange_watch import ExchangeWatch
from trading.market_data.fees import FeeWatch
from trading.models import Event, FeeChange, Market
from trading.models.exchange_state import exchange_facts
from trading.models.fee_change import FeeBook

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
D = Decimal


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    with paper_exchange(
        tmp_path_factory.mktemp("paper"), "--simulate", "--faults", "--shards", "2"
    ) as running:
        yield running


@pytest.fixture
def public(exchange: PaperExchange) -> Iterator[MarketData]:
    with closing(open_market_data(exchange.rest_url)) as client:
        yield client


def pull(exchange: PaperExchange, **lever: object) -> None:
    origin = exchange.rest_url.removesuffix("/trade-api/v2")
    answer = urllib3.request("POST", f"{origin}/__control", json=lever, retries=False, timeout=5.0)
    assert answer.status == 204, answer.data


def test_a_pause_of_one_shard_and_of_all_is_seen(exchange: PaperExchange, public: MarketData) -> None:
    watch = ExchangeWatch(venue=factories.VENUE, exchange=public, weekly=False)

    def standing(index: int | None = None) -> Standing:
        watch.look()
        return exchange_facts().standing(timezone.now(), index)

    assert standing() is Standing.TRADING
    pull(exchange, act="pause", what="trading", active=False, shard=1)
    assert (standing(1), standing(0)) == (Standing.PAUSED, Standing.TRADING)
    pull(exchange, act="pause", what="trading", active=True, shard=1)
    pull(exchange, act="pause", what="exchange", active=False)
    assert standing(0) is Standing.CLOSED
    pull(exchange, act="pause", what="exchange", active=True)
    assert standing(0) is Standing.TRADING


def test_announced_and_seen_fees_become_history(exchange: PaperExchange, public: MarketData) -> None:
    write_markets(Catalogue(public).sweep())
    event = Event.objects.select_related("series").order_by("ticker")[0]
    now, later = timezone.now(), timezone.now() + timedelta(hours=2)
    before = FeeBook.of([event.series_id], [event.ticker]).at(event.series_id, event.ticker, now)
    pull(
        exchange,
        act="series_fee",
        ticker=event.series_id,
        fee_type="quadratic",
        multiplier="3",
        in_seconds=3600,
    )
    FeeWatch(public).look()
    book = FeeBook.of([event.series_id], [event.ticker])
    assert book.at(event.series_id, event.ticker, now) == before
    assert book.at(event.series_id, event.ticker, later).multiplier == D(3)
    pull(exchange, act="event_fee", ticker=event.ticker, fee_type="quadratic", multiplier="0.25")
    assert _in_force(public, event.ticker) == D("0.25")
    assert FeeChange.objects.filter(scope="event", ticker=event.ticker).exists()


def _in_force(public: MarketData, event: str) -> Decimal:
    """The multiplier of the event's markets once the exchange's own clock has put the change into force."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        write_markets(Catalogue(public).sweep())
        row = Market.objects.filter(event_ticker=event)[0]
        if row.fees.multiplier == D("0.25"):
            break
        time.sleep(0.2)
    return row.fees.multiplier


def test_its_own_candles_and_what_we_tell_of_them_are_the_same(
    public: MarketData, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_markets(Catalogue(public).sweep())
    busy = Market.objects.open(timezone.now()).order_by("-volume")[0]
    Market.objects.exclude(pk=busy.pk).update(status="closed")
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)  # no minute begins between the two questions
    Backfill(public).look()
    told = [each for each in history(busy.ticker, 1, now, 200) if each.volume]
    theirs = public.candles(
        busy.series_ticker, busy.ticker, since=now - backfill.SPAN, until=now - backfill.SETTLED
    )
    want = [made_of(each) for each in theirs if each.volume]
    assert want, "the simulated world brings a past of some minutes"
    assert told[: len(want)] == want
