"""Every request that our client can make is one that the published contract knows, with every parameter it can carry.

The table below calls each public method of each client, each keyword at least once; a method or keyword that is missing
in it fails. The server writes down what it was asked and refuses everything, so nothing depends on answers here.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.conformance.report import record
from tests.contract import contract_dir, document, operation, operation_named
from tests.scripted_exchange import Request, answers, serving
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.account import Account, open_account
from trading.exchange.api_keys import ApiKeys, open_api_keys
from trading.exchange.auth import Signer
from trading.exchange.errors import ExchangeRefusal
from trading.exchange.history import History, open_history
from trading.exchange.market_data import MarketData, open_market_data
from trading.exchange.orders import (
    CancelTarget,
    OrderGroups,
    Orders,
    amend_body,
    create_body,
    open_order_groups,
    open_orders,
)
from trading.exchange.subaccounts import Subaccounts, open_subaccounts
from trading.exchange.transfers import Transfers, open_transfers

SIGNER = Signer("key-1", Ed25519PrivateKey.generate())
FROM = datetime(2026, 10, 1, tzinfo=UTC)
TO = FROM + timedelta(hours=6)
SPAN = {"since": FROM, "until": TO}
ID = uuid.UUID(int=7)
OPENERS: dict[type, Callable[[str], Any]] = {
    MarketData: open_market_data,
    History: lambda url: open_history(url, SIGNER),
    Account: lambda url: open_account(url, SIGNER),
    Subaccounts: lambda url: open_subaccounts(url, SIGNER),
    Orders: lambda url: open_orders(url, SIGNER),
    OrderGroups: lambda url: open_order_groups(url, SIGNER),
    Transfers: lambda url: open_transfers(url, SIGNER),
    ApiKeys: lambda url: open_api_keys(url, SIGNER),
}
# They make no request.
SILENT = {"close", "warm"}


def create(client_order_id: str = "kp-1", **more: Any) -> bytes:
    terms: dict[str, Any] = {
        "ticker": "T-1",
        "client_order_id": client_order_id,
        "book_side": BookSide.ASK,
        "quantity": Decimal("2.5"),
        "yes_price": Decimal("0.4201"),
        "time_in_force": TimeInForce.GTC,
    }
    return create_body(**(terms | more))


FULL_CREATE = create(
    expires_at=TO,
    post_only=True,
    cancel_on_pause=True,
    exchange_index=1,
    order_group_id="g-1",
    subaccount=63,
)
EXIT = create(time_in_force=TimeInForce.IOC, reduce_only=True, exchange_index=-1)
AMEND = amend_body(
    ticker="T-1",
    book_side=BookSide.BID,
    yes_price=Decimal("0.5"),
    quantity=Decimal(3),
    client_order_id="kp-1",
    updated_client_order_id="kp-2",
    expires_at=TO,
    exchange_index=0,
)
FREE_AMEND = amend_body(
    ticker="T-1",
    book_side=BookSide.BID,
    yes_price=Decimal("0.5"),
    quantity=Decimal(3),
    clear_expiry=True,
)


@dataclass(frozen=True)
class Call:
    """One call of a method: positional and keyword arguments."""

    client: type
    method: str
    args: tuple[Any, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.client.__name__}.{self.method}({', '.join(self.given)})"


def call(client: type, method: str, *args: Any, **given: Any) -> Call:
    return Call(client, method, args, given)


GROUP = {"exchange_index": 2, "subaccount": 4, "signed_ts_ms": 7}
CALLS = [
    call(MarketData, "exchange_state"),
    call(MarketData, "trading_hours"),
    call(MarketData, "user_data_as_of"),
    call(MarketData, "series", "KX"),
    call(MarketData, "series_list"),
    call(MarketData, "series_list", category="Sports", tags=["a", "b"], updated_since=FROM),
    call(MarketData, "series_fee_changes", series_ticker="KX", with_past=True),
    call(MarketData, "event_fee_changes", event_ticker="KX-1"),
    call(MarketData, "event", "KX-1"),
    call(MarketData, "event_as_told", "KX-1"),
    call(
        MarketData,
        "events",
        status="open",
        series_ticker="KX",
        tickers=["KX-1", "KX-2"],
        with_markets=True,
        closes_from=FROM,
        updated_since=FROM,
    ),
    call(MarketData, "combo_events", series_ticker="KX", tickers=["A"], with_markets=True),
    call(MarketData, "combo_events", collection_ticker="KX-C"),
    call(MarketData, "event_metadata", "KX-1"),
    call(MarketData, "market", "KX-1-A"),
    call(MarketData, "markets", status="paused", event_ticker="KX-1", series_ticker="KX", combos="only"),
    call(MarketData, "markets", status="closed", closes_from=FROM, closes_until=TO),
    call(MarketData, "markets", status="unopened", created_from=FROM, created_until=TO),
    call(MarketData, "markets", status="settled", settled_from=FROM, settled_until=TO),
    call(MarketData, "markets", updated_from=FROM, updated_until=TO, combos="exclude"),
    call(MarketData, "markets_named", ["A", "B"]),
    call(MarketData, "order_book", "A", depth=0),
    call(MarketData, "order_books", ["A", "B"]),
    call(MarketData, "trades", ticker="A", limit=500, is_block_trade=False, **SPAN),
    call(MarketData, "candles", "KX", "A", minutes=60, with_latest_before=True, **SPAN),
    call(MarketData, "candles_of", ["A", "B"], minutes=1440, with_latest_before=True, **SPAN),
    call(MarketData, "event_candles", "KX", "KX-1", minutes=1, **SPAN),
    call(History, "cutoff"),
    call(History, "market", "A"),
    call(History, "markets", tickers=["A"], event_ticker="E", series_ticker="S", without_combos=True),
    call(History, "candles", "A", minutes=60, **SPAN),
    call(History, "trades", ticker="A", is_block_trade=True, **SPAN),
    call(History, "fills", ticker="A", subaccount=1, **SPAN),
    call(History, "orders", ticker="A", subaccount=1, **SPAN),
    call(History, "positions", ticker="A", event_ticker="E", subaccount=1),
    call(Account, "balance", subaccount=0, exchange_index=2),
    call(
        Account,
        "positions",
        ticker="A",
        event_ticker="E",
        settlement="all",
        counted=["position", "total_traded"],
        subaccount=1,
        exchange_index=0,
    ),
    call(Account, "event_positions", event_ticker="E", subaccount=1),
    call(
        Account,
        "orders",
        ticker="A",
        event_tickers=["E", "F"],
        status="resting",
        subaccount=1,
        exchange_index=1,
        **SPAN,
    ),
    call(Account, "order", "o/1"),
    call(Account, "queue_positions", tickers=["A", "B"], event_ticker="E", subaccount=0),
    call(Account, "queue_position", "o-1", ticker="A"),
    call(Account, "fills", ticker="A", order_id="o-1", subaccount=1, exchange_index=1, **SPAN),
    call(Account, "fills", tickers=["A", "B"]),
    call(Account, "settlements", ticker="A", event_ticker="E", subaccount=1, **SPAN),
    call(Account, "order_groups", subaccount=1),
    call(Account, "order_group", "g-1", subaccount=1),
    call(Account, "deposits"),
    call(Account, "withdrawals"),
    call(Account, "limits"),
    call(Account, "endpoint_costs"),
    call(Account, "api_keys"),
    call(Subaccounts, "balances"),
    call(Subaccounts, "transfers"),
    call(Subaccounts, "netting"),
    call(Subaccounts, "shard_transfers"),
    call(Subaccounts, "shard_transfer", "t-1"),
    call(Subaccounts, "target_allocation"),
    call(Orders, "send_create", FULL_CREATE, 7, send_before=float("inf"), meanwhile=lambda: None),
    call(Orders, "send_create", EXIT, 7),
    call(Orders, "send_batch", [create("kp-1"), FULL_CREATE.replace(b"kp-1", b"kp-2")], 7, send_before=1e18),
    call(Orders, "send_amend", "o-1", AMEND, 7, subaccount=3, send_before=float("inf")),
    call(Orders, "send_amend", "o-1", FREE_AMEND, 7),
    call(
        Orders,
        "decrease",
        "o-1",
        market_ticker="T-1",
        reduce_by=Decimal("0.5"),
        exchange_index=1,
        subaccount=2,
        signed_ts_ms=7,
    ),
    call(Orders, "decrease", "o-1", market_ticker="T-1", reduce_to=Decimal(0)),
    call(Orders, "cancel", "o-1", market_ticker="T-1", exchange_index=-1, subaccount=3, signed_ts_ms=7),
    call(
        Orders,
        "cancel_batch",
        [CancelTarget("o-1", "T-1"), CancelTarget("o-2", "T-2", 1, 2)],
        signed_ts_ms=7,
    ),
    call(Orders, "cancel_all", subaccount=1, signed_ts_ms=7),
    call(OrderGroups, "create", contracts_in_15s=Decimal("1.5"), **GROUP),
    call(OrderGroups, "limit", "g-1", contracts_in_15s=Decimal(1_000_000), **GROUP),
    call(OrderGroups, "trigger", "g-1", **GROUP),
    call(OrderGroups, "reset", "g-1", **GROUP),
    call(OrderGroups, "delete", "g-1", **GROUP),
    call(Transfers, "create_subaccount", exchange_index=1),
    call(
        Transfers,
        "between_subaccounts",
        amount=Decimal("12.34"),
        from_subaccount=0,
        to_subaccount=63,
        transfer_id=ID,
        exchange_index=1,
    ),
    call(Transfers, "set_netting", subaccount=0, enabled=True),
    call(
        Transfers,
        "between_shards",
        amount=Decimal("0.0001"),
        source_shard=0,
        destination_shard=2,
        transfer_id=ID,
    ),
    call(
        Transfers,
        "between_shards",
        amount=Decimal(5),
        source_shard=1,
        destination_shard=1,
        source_subaccount=1,
        destination_subaccount=2,
    ),
    call(Transfers, "set_target_allocation", {0: 60, 2: 40}, reservation="max"),
    call(Transfers, "set_target_allocation", {}),
    call(ApiKeys, "create", name="n", public_key="PEM", scopes=["read", "write::trade"], subaccount=1),
    call(ApiKeys, "generate", name="n", key_type="ed25519", scopes=["read"], subaccount=1),
    call(ApiKeys, "delete", "key-1"),
]
# What the desk's exchange client must be able to do, by the contract's own names.
WANTED = frozenset(
    """
    GetExchangeStatus GetExchangeSchedule GetUserDataTimestamp GetSeriesFeeChanges GetEventFeeChanges
    GetSeries GetSeriesList GetEvent GetEvents GetMultivariateEvents GetEventMetadata GetMarket GetMarkets
    GetMarketOrderbook GetMarketOrderbooks GetTrades GetMarketCandlesticks BatchGetMarketCandlesticks
    GetMarketCandlesticksByEvent GetHistoricalCutoff GetHistoricalMarkets GetHistoricalMarket
    GetMarketCandlesticksHistorical GetTradesHistorical GetFillsHistorical GetHistoricalOrders GetHistoricalPositions
    GetBalance GetPositions GetFills GetSettlements GetOrders GetOrder GetOrderQueuePositions GetOrderQueuePosition
    CreateOrderV2 AmendOrderV2 DecreaseOrderV2 CancelOrderV2 CancelAllOrders BatchCreateOrdersV2 BatchCancelOrdersV2
    GetOrderGroups GetOrderGroup CreateOrderGroup DeleteOrderGroup ResetOrderGroup TriggerOrderGroup
    UpdateOrderGroupLimit CreateSubaccount ApplySubaccountTransfer GetSubaccountBalances GetSubaccountTransfers
    GetSubaccountNetting UpdateSubaccountNetting IntraExchangeInstanceTransfer GetIntraExchangeInstanceTransfers
    GetIntraExchangeInstanceTransfer GetTargetBalanceAllocation SetTargetBalanceAllocation GetDeposits GetWithdrawals
    GetAccountApiLimits GetAccountEndpointCosts GetApiKeys CreateApiKey GenerateApiKey DeleteApiKey
    """.split()
)


@pytest.fixture(scope="module")
def requests() -> Iterator[dict[str, list[Request]]]:
    """What each call of the table asked the server for."""
    refusal = answers({"error": {"code": "bad_request", "message": "as scripted"}}, 400)
    heard: dict[str, list[Request]] = {}
    with serving(refusal) as exchange:
        for each in CALLS:
            before = len(exchange.requests)
            with closing(OPENERS[each.client](exchange.url)) as client, suppress(ExchangeRefusal):
                getattr(client, each.method)(*each.args, **each.given)
            heard[str(each)] = exchange.requests[before:]
    return heard


def public_methods(client: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(function)
        for name, function in inspect.getmembers(client, inspect.isfunction)
        if not name.startswith("_") and name not in SILENT
    }


def test_the_table_calls_every_method_of_every_client_with_every_keyword() -> None:
    for client in OPENERS:
        for name, signature in public_methods(client).items():
            calls = [each for each in CALLS if (each.client, each.method) == (client, name)]
            assert calls, f"{client.__name__}.{name} is not in the table"
            keywords = {each.name for each in signature.parameters.values() if each.kind is each.KEYWORD_ONLY}
            used = {keyword for each in calls for keyword in each.given}
            assert used == keywords, f"{client.__name__}.{name}"


@pytest.mark.parametrize("name", [str(each) for each in CALLS])
def test_each_request_is_as_published(requests: dict[str, list[Request]], name: str) -> None:
    contract_dir()
    [request] = requests[name]
    published = operation(request.method, request.path)
    assert published is not None, f"{request.method} {request.path} is in no contract"
    query = parse_qsl(request.query, keep_blank_values=True)
    assert published.request_faults(query, request.body) == [], request
    assert not unknown_in_items(published.name, request.body)


def unknown_in_items(name: str, body: bytes) -> set[str]:
    """Fields of the items of a batch that the contract does not have."""
    items = {
        "BatchCreateOrdersV2": "BatchCreateOrdersV2Request",
        "BatchCancelOrdersV2": "BatchCancelOrdersV2Request",
    }
    if name not in items:
        return set()
    schemas = document("openapi.yaml")["components"]["schemas"]
    item = schemas[items[name]]["properties"]["orders"]["items"]
    if "$ref" in item:
        item = schemas[item["$ref"].rsplit("/", 1)[-1]]
    return {key for each in msgspec.json.decode(body)["orders"] for key in each} - item["properties"].keys()


def test_every_operation_of_a_trading_desk_is_covered(requests: dict[str, list[Request]]) -> None:
    contract_dir()
    made: dict[str, str] = {}
    for name, [request] in requests.items():
        asked = operation(request.method, request.path)
        if asked is not None:
            made.setdefault(asked.name, name.partition("(")[0])
    assert made.keys() == WANTED
    assert all(operation_named(name) for name in WANTED)
    record("client", made)


def test_private_requests_are_signed_and_public_ones_need_not_be(
    requests: dict[str, list[Request]],
) -> None:
    for told in requests.values():
        for request in told:
            signed = "KALSHI-ACCESS-SIGNATURE" in request.headers
            if "/portfolio/" in request.path or "/account/" in request.path or "/api_keys" in request.path:
                assert signed, request.path


def test_the_judge_knows_a_wrong_request() -> None:
    """The negative control: a misspelt parameter, a number for a count, a field of the retired API."""
    contract_dir()
    assert operation_named("GetMarkets").request_faults([("state", "open")], b"")
    assert operation_named("CreateOrderV2").request_faults([], FULL_CREATE.replace(b'"2.50"', b"2.5"))
    assert operation_named("CreateOrderV2").request_faults([], FULL_CREATE[:-1] + b',"action":"buy"}')
    assert operation("POST", "/trade-api/v2/portfolio/orders") is None
