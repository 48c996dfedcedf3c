"""Each rule at its boundary, and that no rule can be skipped by raising."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.domain.limits import (
    PAPER_LIMITS,
    RULES,
    Case,
    Check,
    PortfolioFacts,
    RiskLevel,
    TradingMode,
    Verdict,
    judge,
)
from trading.domain.fees import FeeSchedule, FeeType, UnknownFee
from trading.domain.hours import ExchangeFacts, ShardState, Window
from trading.domain.markets import MarketFacts, MarketStatus, TopOfBook
from trading.domain.orders import Action, Side, Terms

D = Decimal
NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
LIMITS = {name: limit.value for name, limit in PAPER_LIMITS.items()}

MARKET = MarketFacts(
    ticker="SIMTEST-1",
    event_ticker="SIMTEST",
    series_ticker="SIMTEST",
    title="Will it?",
    status=MarketStatus.ACTIVE,
    open_at=NOW - timedelta(hours=1),
    close_at=NOW + timedelta(hours=1),
    book=TopOfBook(D("0.48"), D("0.50"), D(500), D(500), NOW),
    exchange=ExchangeFacts(is_active=True, is_trading=True, as_of=NOW),
)
PAUSED = replace(MARKET.exchange, is_trading=False)
PORTFOLIO = PortfolioFacts(
    cash=D(10_000),
    reserved_cash=D(0),
    total_exposure=D(0),
    event_exposure=D(0),
    held=D(0),
    pending=D(0),
    mode=TradingMode.ACTIVE,
)


def terms(
    quantity: str = "10", price: str = "0.50", action: Action = Action.BUY, side: Side = Side.YES
) -> Terms:
    return Terms("SIMTEST-1", action, side, D(quantity), D(price))


def case(order: Terms | None = None, **changes: Any) -> Case:
    portfolio = replace(PORTFOLIO, **{k: changes.pop(k) for k in list(changes) if hasattr(PORTFOLIO, k)})
    market = replace(MARKET, **{k: changes.pop(k) for k in list(changes) if hasattr(MARKET, k)})
    limits = LIMITS | {k: changes.pop(k) for k in list(changes) if k in LIMITS}
    return Case(terms=order or terms(), market=market, portfolio=portfolio, limits=limits, now=NOW, **changes)


def verdict(name: str, subject: Case) -> Verdict:
    return next(check.verdict for check in judge(subject).checks if check.name == name)


def test_a_plain_small_order_passes_every_rule_and_is_low_risk() -> None:
    report = judge(case())
    assert {check.verdict for check in report.checks} == {Verdict.PASS}
    assert report.level is RiskLevel.LOW


BOUNDARIES = [
    ("order_notional", {"order": terms("300", "0.50")}, {"order": terms("300.01", "0.50")}),
    ("position", {"held": D(490)}, {"held": D("490.01")}),
    ("position", {"pending": D(490)}, {"pending": D("490.01")}),
    ("event_exposure", {"event_exposure": D(395)}, {"event_exposure": D("395.01")}),
    ("total_exposure", {"total_exposure": D(5995)}, {"total_exposure": D("5995.01")}),
    ("cash_committed", {"reserved_cash": D("7994.825")}, {"reserved_cash": D("7994.8251")}),
    ("cash", {"cash": D("5.175")}, {"cash": D("5.1749")}),
    ("price_collar", {"order": terms(price="0.60")}, {"order": terms(price="0.61")}),
    ("data_age", {"book": replace(MARKET.book, as_of=NOW - timedelta(seconds=10))},
     {"book": replace(MARKET.book, as_of=NOW - timedelta(seconds=10.001))}),
    ("data_age", {"book": replace(MARKET.book, as_of=NOW + timedelta(seconds=10))},
     {"book": replace(MARKET.book, as_of=NOW + timedelta(seconds=10.001))}),
    ("market_open", {"close_at": NOW + timedelta(seconds=20.001)}, {"close_at": NOW + timedelta(seconds=20)}),
    ("market_open", {"open_at": NOW}, {"open_at": NOW + timedelta(seconds=1)}),
    ("price_grid", {"order": terms(price="0.51")}, {"order": terms(price="0.505")}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "inside", "outside"), BOUNDARIES)
def test_each_rule_holds_exactly_at_its_limit(
    rule: str, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    assert verdict(rule, case(**inside)) is not Verdict.BLOCK
    assert verdict(rule, case(**outside)) is Verdict.BLOCK


@pytest.mark.parametrize(
    ("mode", "reduce_only", "manual", "passes"),
    [
        (TradingMode.ACTIVE, False, False, True),
        (TradingMode.REDUCING, False, False, False),
        (TradingMode.REDUCING, True, False, True),
        (TradingMode.HALTED, False, False, False),
        (TradingMode.HALTED, True, False, False),
        (TradingMode.HALTED, True, True, True),
    ],
)
def test_a_pause_lets_exits_pass_and_a_stop_only_a_persons_own(
    mode: TradingMode, reduce_only: bool, manual: bool, passes: bool
) -> None:
    subject = case(mode=mode, reduce_only=reduce_only, manual_exit=manual, held=D(-100))
    assert (verdict("trading_state", subject) is Verdict.PASS) is passes


@pytest.mark.parametrize("rule", ["price_collar", "data_age", "cash", "order_notional", "event_exposure"])
def test_the_way_out_is_never_blocked_by_price_age_or_money(rule: str) -> None:
    exit_order = terms("400", "0.01", Action.SELL, Side.YES)
    subject = case(
        exit_order,
        held=D(500),
        cash=D(0),
        event_exposure=D(9999),
        book=TopOfBook(None, None),
        reduce_only=True,
    )
    assert verdict(rule, subject) is Verdict.PASS


def test_an_exit_may_not_be_larger_than_what_is_held() -> None:
    exit_order = terms("11", "0.48", Action.SELL, Side.YES)
    assert verdict("reduces", case(exit_order, held=D(10), reduce_only=True)) is Verdict.BLOCK


def test_no_price_at_all_blocks() -> None:
    report = judge(case(book=TopOfBook(None, None)))
    assert {check.name for check in report.blocks} >= {"price_collar", "data_age"}


def test_a_rule_that_raises_is_a_no_with_its_name() -> None:
    def broken(_: Case) -> Check:
        raise ZeroDivisionError("odd input")

    report = judge(case(), (broken,))
    assert [(check.name, check.code) for check in report.blocks] == [("broken", "E302")]


UNKNOWN_FEE = FeeSchedule(FeeType.FLAT)


@pytest.mark.parametrize(
    ("order", "held"),
    [
        (terms(), D(0)),
        (terms(), D(10)),
        (terms("11", "0.48", Action.SELL), D(10)),
        (terms("10", "0.50", Action.BUY, Side.NO), D(9)),
    ],
)
def test_a_fee_that_cannot_be_computed_raises_before_any_verdict_on_what_opens(
    order: Terms, held: Decimal
) -> None:
    with pytest.raises(UnknownFee):
        case(order, held=held, fees=UNKNOWN_FEE)


@pytest.mark.parametrize("manual", [True, False])
@pytest.mark.parametrize(
    ("order", "held"),
    [(terms("10", "0.48", Action.SELL), D(10)), (terms("10", "0.50", Action.SELL, Side.NO), D(-12))],
)
def test_a_fee_that_cannot_be_computed_blocks_no_way_out_and_is_said_to_be_unknown(
    order: Terms, held: Decimal, manual: bool
) -> None:
    """Naive: it counts as zero, and the card says that selling costs nothing."""
    report = judge(case(order, held=held, fees=UNKNOWN_FEE, reduce_only=True, manual_exit=manual))
    assert report.allowed
    assert (report.cost.fee, report.cost.cash) == (None, D(0))
    told = report.as_json()
    assert told["fee"] is None
    (cash,) = [check["text"] for check in told["checks"] if check["name"] == "cash"]
    assert cash == "$0.00 of $10,000.00 free, without the fee, which is not known"


def test_three_quarters_of_a_limit_warns_and_makes_it_high_risk() -> None:
    report = judge(case(terms("226", "0.50")))
    assert [check.name for check in report.warnings] == ["order_notional"]
    assert report.level is RiskLevel.HIGH


def test_half_of_a_limit_is_medium_risk() -> None:
    assert judge(case(terms("160", "0.50"))).level is RiskLevel.MEDIUM


@given(
    st.integers(1, 60_000),
    st.integers(1, 99),
    st.sampled_from(Side),
    st.integers(0, 400),
    st.integers(0, 500),
)
def test_what_passes_never_takes_exposure_over_a_limit(
    lots: int, cents: int, side: Side, event_exposure: int, held: int
) -> None:
    order = terms(str(D(lots) / 100), str(D(cents) / 100), side=side)
    subject = case(order, event_exposure=D(event_exposure), held=D(held))
    report = judge(subject)
    if report.allowed:
        assert subject.portfolio.event_exposure + subject.cost.cost <= max(
            LIMITS["event_exposure"], event_exposure
        )
        assert abs(D(held) + order.signed_quantity) <= max(LIMITS["position"], D(held))
        assert order.notional <= LIMITS["order_notional"]


@pytest.mark.parametrize("left_out", RULES, ids=lambda rule: rule.__name__)
def test_leaving_out_any_rule_lets_something_bad_through(left_out: Any) -> None:
    bad = {
        "trading_state": case(mode=TradingMode.HALTED),
        "exchange_open": case(exchange=PAUSED),
        "market_open": case(status=MarketStatus.CLOSED),
        "data_age": case(book=replace(MARKET.book, as_of=NOW - timedelta(minutes=1))),
        "price_grid": case(terms(price="0.505")),
        "price_collar": case(terms(price="0.65")),
        "order_notional": case(terms("301", "0.50")),
        "position": case(held=D(499)),
        "event_exposure": case(event_exposure=D(399)),
        "total_exposure": case(total_exposure=D(5999)),
        "cash_committed": case(reserved_cash=D(7999), cash=D(20_000)),
        "cash": case(cash=D(1)),
        "reduces": case(terms("20", "0.48", Action.SELL), held=D(10), reduce_only=True),
    }[left_out.__name__]
    assert not judge(bad).allowed
    assert judge(bad, tuple(rule for rule in RULES if rule is not left_out)).allowed


@pytest.mark.parametrize(
    "exchange",
    [
        PAUSED,
        replace(MARKET.exchange, is_active=False),
        replace(MARKET.exchange, shards=(ShardState(0, True, False),)),
        replace(MARKET.exchange, maintenance=(Window(NOW - timedelta(hours=1), NOW + timedelta(hours=1)),)),
        replace(MARKET.exchange, as_of=NOW - timedelta(minutes=5)),
        ExchangeFacts(),
    ],
)
def test_while_the_exchange_does_not_trade_no_new_risk_passes_but_every_exit_does(
    exchange: ExchangeFacts,
) -> None:
    report = judge(case(exchange=exchange))
    assert [check.code for check in report.blocks] == ["E607"]
    way_out = case(terms("10", "0.48", Action.SELL), held=D(10), reduce_only=True, exchange=exchange)
    assert verdict("exchange_open", way_out) is Verdict.PASS


def test_a_pause_of_another_shard_stops_nothing() -> None:
    shards = (ShardState(0, True, True), ShardState(3, False, False))
    assert judge(case(exchange=replace(MARKET.exchange, shards=shards))).allowed
