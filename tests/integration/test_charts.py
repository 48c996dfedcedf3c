"""Candles as rows: written once, joined over a restart, rolled up, bounded, and given out without holes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from tests import factories
from trading.domain.candles import Candle as Made
from trading.domain.candles import Span
from trading.domain.markets import TopOfBook
from trading.domain.orders import Side
from trading.exchange import reports
from trading.exchange.errors import Unreachable
from trading.exchange.events import Disconnected, Gap, StreamEvent, TickerUpdate, TradePrint
from trading.exchange.reports import PublicTrade
from trading.market_data import charts
from trading.market_data.backfill import Backfill
from trading.market_data.charts import Charts, history, write_minutes
from trading.models import Candle, FeeChange

pytestmark = pytest.mark.django_db
D = Decimal
T = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def trade(at: datetime, price: str, quantity: str = "1", ticker: str = "A") -> TradePrint:
    told = PublicTrade(f"t-{at}", ticker, D(price), D(quantity), Side.YES, at, is_block_trade=False)
    return TradePrint(told, ms(at))


def quote(at: datetime, bid: str, ask: str, ticker: str = "A") -> TickerUpdate:
    return TickerUpdate(ticker, TopOfBook(D(bid), D(ask)), None, D(0), D(5), ms(at))


def written(*said: StreamEvent, until: datetime) -> Charts:
    made = Charts()
    for event in said:
        made.apply(event)
    write_minutes(made.take(ms(until) + charts.GRACE_MS))
    return made


def candle(end: datetime, price: str = "0.45", volume: str = "2") -> Made:
    flat = Span.flat(D(price))
    return Made(ms(end), Span.flat(D("0.4")), Span.flat(D("0.5")), flat, D(volume), D(price) * D(volume))


def test_minutes_become_rows_once_they_are_over() -> None:
    made = written(
        quote(T, "0.40", "0.44"), trade(T, "0.44", "3"), trade(T + MINUTE, "0.50"), until=T + MINUTE
    )
    row = Candle.objects.get()
    assert (row.end_at, row.volume, row.price_close, row.open_interest) == (T + MINUTE, D(3), D("0.44"), D(5))
    write_minutes(made.take(ms(T + 2 * MINUTE) + charts.GRACE_MS))
    assert Candle.objects.count() == 2


def test_a_feed_that_ends_and_one_that_begins_in_the_same_minute_make_one_candle() -> None:
    first = Charts()
    first.apply(trade(T, "0.44", "3"))
    write_minutes(first.take_all())
    written(trade(T + timedelta(seconds=30), "0.40", "2"), until=T + MINUTE)
    row = Candle.objects.get()
    assert (row.volume, row.price_open, row.price_low, row.is_whole) == (D(5), D("0.44"), D("0.40"), False)


@pytest.mark.parametrize("loss", [Disconnected("silent", 1.0), Gap("trade", "lost")])
def test_a_loss_in_a_minute_is_said(loss: StreamEvent) -> None:
    later = [trade(T + n * MINUTE, "0.44") for n in range(1, 4)]
    written(trade(T, "0.44"), later[0], loss, *later[1:], until=T + 5 * MINUTE)
    assert list(Candle.objects.order_by("end_at").values_list("is_whole", flat=True)) == [
        False,
        False,
        True,
        True,
    ]


def test_what_could_not_be_written_is_taken_again() -> None:
    made = Charts()
    made.apply(trade(T, "0.44"))
    taken = made.take(ms(T + 2 * MINUTE))
    made.put_back(taken)
    assert made.take(ms(T + 2 * MINUTE)) == taken


def test_minutes_are_rolled_up_into_hours_and_days_however_often() -> None:
    write_minutes([("A", candle(T + n * 10 * MINUTE)) for n in range(1, 6 * 25)])
    now = T + timedelta(hours=25)
    for _ in range(3):
        charts.roll_up(now)
    hours = Candle.objects.filter(minutes=60).order_by("end_at")
    assert (hours.count(), hours[0].end_at, hours[0].volume) == (25, T + timedelta(hours=1), D(12))
    day = Candle.objects.get(minutes=1440)
    assert (day.end_at, day.volume) == (T + timedelta(days=1), D(24 * 12))


def test_rolling_up_after_a_long_rest_leaves_no_hour_out() -> None:
    write_minutes([("A", candle(T + n * 30 * MINUTE)) for n in range(1, 20)])
    charts.roll_up(T + timedelta(hours=1))
    charts.roll_up(T + timedelta(hours=9))
    assert Candle.objects.filter(minutes=60).count() == 9


def test_old_candles_go_by_their_length() -> None:
    write_minutes([("A", candle(T))])
    charts.roll_up(T + timedelta(hours=2))
    assert charts.prune(T + charts.KEPT[1]) == 0
    assert charts.prune(T + charts.KEPT[1] + MINUTE) == 1
    assert set(Candle.objects.values_list("minutes", flat=True)) == {60, 1440}


def test_history_has_no_holes_and_ends_with_the_last_whole_period() -> None:
    write_minutes(
        [("A", candle(T + MINUTE)), ("A", candle(T + 4 * MINUTE, "0.47")), ("B", candle(T + MINUTE))]
    )
    told = history("A", 1, T + 6 * MINUTE + timedelta(seconds=30), 10)
    assert [each.end_ms for each in told] == [ms(T + n * MINUTE) for n in range(1, 7)]
    assert [each.volume for each in told] == [D(2), 0, 0, D(2), 0, 0]
    assert told[1].previous == D("0.45") and told[-1].previous == D("0.47")


def test_history_of_a_market_that_was_quiet_for_all_of_it_carries_its_last_prices() -> None:
    write_minutes([("A", candle(T))])
    told = history("A", 1, T + timedelta(hours=3), 5)
    assert len(told) == 5
    assert {(each.volume, each.previous, each.bid.close) for each in told} == {(D(0), D("0.45"), D("0.4"))}


def test_hours_are_told_before_they_are_rolled_up() -> None:
    write_minutes([("A", candle(T + n * 20 * MINUTE)) for n in range(1, 10)])
    by_hand = history("A", 60, T + timedelta(hours=3), 10)
    charts.roll_up(T + timedelta(hours=3))
    assert history("A", 60, T + timedelta(hours=3), 10) == by_hand
    assert [each.volume for each in by_hand] == [D(6), D(6), D(6)]


class Told:
    """An exchange with candles of its own for one market."""

    def __init__(self, *candles: reports.Candle) -> None:
        self.candles, self.asked = list(candles), []

    def candles_of(self, tickers: list[str], **span: object) -> dict[str, list[reports.Candle]]:
        self.asked += tickers
        return {"A": self.candles} if "A" in tickers else {}


def theirs(end: datetime, price: str, volume: str) -> reports.Candle:
    def flat(text: str) -> reports.OpenHighLowClose:
        return reports.OpenHighLowClose(D(text), D(text), D(text), D(text))

    traded = None if volume == "0" else flat(price)
    return reports.Candle(
        end, flat("0.4"), flat("0.5"), traded, traded and D(price), D(volume), D(9), D("0.44")
    )


def test_what_was_not_heard_whole_is_replaced_by_the_exchanges_own_once() -> None:
    now = timezone.now().replace(second=0, microsecond=0)
    factories.quoted_market(ticker="A")
    factories.quoted_market(ticker="B")
    write_minutes([("A", replace(candle(now - 5 * MINUTE), is_whole=False))])
    exchange = Told(
        *(theirs(now - n * MINUTE, "0.46", volume) for n, volume in ((6, "0"), (5, "7"), (4, "0"), (3, "2")))
    )
    keeper = Backfill(exchange)  # type: ignore[arg-type]
    keeper.look()
    keeper.look()
    assert sorted(exchange.asked) == ["A", "B"], (
        "each once: what the exchange has not is not asked for at once again"
    )
    rows = Candle.objects.filter(ticker="A").order_by("end_at")
    assert [(row.volume, row.is_whole) for row in rows] == [(D(0), True), (D(7), True), (D(2), True)]
    told = history("A", 1, now, 10)
    assert [each.volume for each in told][:5] == [D(0), D(7), D(0), D(2), D(0)]


def test_an_exchange_out_of_reach_leaves_ours_and_says_that_they_are_not_whole() -> None:
    class Away:
        def candles_of(self, *_: object, **__: object) -> dict[str, list[reports.Candle]]:
            raise Unreachable("no connection")

    now = timezone.now().replace(second=0, microsecond=0)
    write_minutes([("A", replace(candle(now - 5 * MINUTE), is_whole=False))])
    Backfill(Away()).look()  # type: ignore[arg-type]
    assert Candle.objects.get().is_whole is False


def test_a_market_without_candles_has_no_history() -> None:
    factories.quoted_market(ticker="A")
    assert history("A", 1, T, 10) == []


def test_the_api_gives_the_history_and_the_page_draws_it() -> None:
    market = factories.quoted_market(ticker="A")
    now = timezone.now().replace(second=0, microsecond=0)
    write_minutes([("A", candle(now - 3 * MINUTE)), ("A", candle(now - MINUTE, "0.47", "3"))])
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    told = client.get("/api/v1/markets/A/history?minutes=1&limit=10").json()
    assert (told["ticker"], told["minutes"]) == ("A", 1)
    first, last = told["candles"][0], told["candles"][-1]
    assert first["price"] == {"open": "0.4500", "high": "0.4500", "low": "0.4500", "close": "0.4500"}
    assert (first["volume"], first["whole"], last["previous"]) == ("2.00", True, "0.4700")
    assert client.get("/api/v1/markets/A/history?minutes=7").status_code == 422
    assert client.get("/api/v1/markets/NONE/history").json()["code"] == "E020"
    page = client.get(f"/markets/{market.ticker}").content.decode()
    assert "5 contracts traded up to" in page and "the last at 47.0¢." in page and "<polyline" in page


def test_a_market_without_trades_says_so_on_its_page() -> None:
    factories.quoted_market(ticker="A")
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    assert "No trades yet." in client.get("/markets/A").content.decode()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("determined", "determined YES, YES pays $1.00 once it is final, 5 min after the determination"),
        ("disputed", "disputed: YES, YES pays $1.00 if it stands; nothing is paid yet"),
        ("finalized", "settled YES, YES pays $1.00"),
    ],
)
def test_the_page_tells_what_a_result_means_now(status: str, words: str) -> None:
    factories.quoted_market(
        ticker="A", status=status, result="yes", settlement_value=D(1), settlement_seconds=300
    )
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    assert words in client.get("/markets/A").content.decode()


def test_the_page_tells_the_fee_and_its_next_change() -> None:
    factories.quoted_market(ticker="A")
    now = timezone.now()
    for at, multiplier in ((now - MINUTE, "0.5"), (now + timedelta(days=2), "1")):
        FeeChange.objects.create(
            scope="series", ticker="SIMTEST", at=at, fee_type="quadratic", multiplier=multiplier,
            source="announced", seen_at=now,
        )  # fmt: skip
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    page = client.get("/markets/A").content.decode()
    assert "0.5×" in page and "quadratic; changes" in page
