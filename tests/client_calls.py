"""Every operation that our client uses, with the method that uses it: what contract tests call, one by one.

`COMPLETE` names the classes whose public methods all stand here; a test holds that against the code.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.contract_examples import TICKER, example
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.account import Account, open_account
from trading.exchange.api_keys import ApiKeys, open_api_keys
from trading.exchange.auth import Signer
from trading.exchange.contract import Operation, contract
from trading.exchange.history import History, open_history
from trading.exchange.market_data import MarketData, open_market_data
from trading.exchange.orders import Orders, create_body, open_orders
from trading.exchange.orders.bodies import amend_body
from trading.exchange.orders.groups import OrderGroups, open_order_groups
from trading.exchange.subaccounts import Subaccounts, open_subaccounts
from trading.exchange.targets import CancelTarget
from trading.exchange.transfers import Transfers, open_transfers

SIGNER = Signer("key-1", Ed25519PrivateKey.generate())
SINCE, UNTIL = datetime(2026, 8, 5, tzinfo=UTC), datetime(2026, 8, 6, tzinfo=UTC)
SPAN = {"since": SINCE, "until": UNTIL}
# What the examples echo.
ORDER_ID, OUR_ID, SHARD = "id-4711", "some text", 2

OPENERS: dict[type, Callable[[str], Any]] = {
    MarketData: open_market_data,
    Account: lambda url: open_account(url, SIGNER),
    History: lambda url: open_history(url, SIGNER),
    Subaccounts: lambda url: open_subaccounts(url, SIGNER),
    Orders: lambda url: open_orders(url, SIGNER),
    OrderGroups: lambda url: open_order_groups(url, SIGNER),
    Transfers: lambda url: open_transfers(url, SIGNER),
    ApiKeys: lambda url: open_api_keys(url, SIGNER),
}
COMPLETE = tuple(OPENERS)
NOT_CALLS = frozenset(
    {"close", "warm", "event_as_told"}
)  # the last hands the bytes on and reads nothing of them

CREATE = create_body(
    ticker=TICKER,
    client_order_id=OUR_ID,
    book_side=BookSide.BID,
    quantity=Decimal(5),
    yes_price=Decimal("0.42"),
    time_in_force=TimeInForce.GTC,
)
AMEND = amend_body(
    ticker=TICKER,
    book_side=BookSide.BID,
    yes_price=Decimal("0.42"),
    quantity=Decimal(5),
    client_order_id=OUR_ID,
)


@dataclass(frozen=True)
class Call:
    """One operation and the method of a client that uses it. `fit` makes the example fit the call."""

    operation: str
    client: type
    method: str
    given: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    fit: Callable[[dict[str, Any]], dict[str, Any]] = lambda told: told

    def __str__(self) -> str:
        return f"{self.client.__name__}.{self.method}"

    @property
    def agreed(self) -> Operation:
        [found] = [each for each in contract().operations if each.name == self.operation]
        return found

    def example(self) -> dict[str, Any]:
        return self.fit(example(self.agreed.answer)) if self.agreed.answer else {}

    def make(self, clients: dict[type, Any]) -> Any:
        """Call it."""
        return getattr(clients[self.client], self.method)(*self.given, **self.named)


def _without_error(told: dict[str, Any]) -> dict[str, Any]:
    """A batch whose one item succeeded."""
    return {
        "orders": [{name: each for name, each in item.items() if name != "error"} for item in told["orders"]]
    }


def _whole_span(told: dict[str, Any]) -> dict[str, Any]:
    return {**told, "adjusted_end_ts": int(UNTIL.timestamp())}


READS = (
    Call("GET /exchange/status", MarketData, "exchange_state"),
    Call("GET /exchange/schedule", MarketData, "trading_hours"),
    Call("GET /exchange/user_data_timestamp", MarketData, "user_data_as_of"),
    Call("GET /series/{series_ticker}", MarketData, "series", ("KXTEST",)),
    Call("GET /series", MarketData, "series_list"),
    Call("GET /series/fee_changes", MarketData, "series_fee_changes"),
    Call("GET /events/fee_changes", MarketData, "event_fee_changes"),
    Call("GET /events/{event_ticker}", MarketData, "event", ("KXTEST-1",)),
    Call("GET /events", MarketData, "events", named={"with_markets": True}),
    Call("GET /events/multivariate", MarketData, "combo_events"),
    Call("GET /events/{event_ticker}/metadata", MarketData, "event_metadata", ("KXTEST-1",)),
    Call("GET /markets/{ticker}", MarketData, "market", (TICKER,)),
    Call("GET /markets", MarketData, "markets"),
    Call("GET /markets", MarketData, "markets_named", ([TICKER],)),
    Call("GET /markets/{ticker}/orderbook", MarketData, "order_book", (TICKER,)),
    Call("GET /markets/orderbooks", MarketData, "order_books", ([TICKER],)),
    Call("GET /markets/trades", MarketData, "trades"),
    Call(
        "GET /series/{series_ticker}/markets/{ticker}/candlesticks",
        MarketData,
        "candles",
        ("KXTEST", TICKER),
        SPAN,
    ),
    Call("GET /markets/candlesticks", MarketData, "candles_of", ([TICKER],), SPAN),
    Call(
        "GET /series/{series_ticker}/events/{ticker}/candlesticks",
        MarketData,
        "event_candles",
        ("KXTEST", "KXTEST-1"),
        SPAN,
        _whole_span,
    ),
    Call("GET /portfolio/balance", Account, "balance"),
    Call("GET /portfolio/positions", Account, "positions"),
    Call("GET /portfolio/positions", Account, "event_positions"),
    Call("GET /portfolio/orders", Account, "orders"),
    Call("GET /portfolio/orders/{order_id}", Account, "order", (ORDER_ID,)),
    Call("GET /portfolio/orders/queue_positions", Account, "queue_positions"),
    Call("GET /portfolio/orders/{order_id}/queue_position", Account, "queue_position", (ORDER_ID,)),
    Call("GET /portfolio/fills", Account, "fills"),
    Call("GET /portfolio/settlements", Account, "settlements"),
    Call("GET /portfolio/order_groups", Account, "order_groups"),
    Call("GET /portfolio/order_groups/{order_group_id}", Account, "order_group", ("g-1",)),
    Call("GET /portfolio/deposits", Account, "deposits"),
    Call("GET /portfolio/withdrawals", Account, "withdrawals"),
    Call("GET /account/limits", Account, "limits"),
    Call("GET /account/endpoint_costs", Account, "endpoint_costs"),
    Call("GET /api_keys", Account, "api_keys"),
    Call("GET /historical/cutoff", History, "cutoff"),
    Call("GET /historical/markets/{ticker}", History, "market", (TICKER,)),
    Call("GET /historical/markets", History, "markets"),
    Call("GET /historical/markets/{ticker}/candlesticks", History, "candles", (TICKER,), SPAN),
    Call("GET /historical/trades", History, "trades"),
    Call("GET /historical/fills", History, "fills"),
    Call("GET /historical/orders", History, "orders"),
    Call("GET /historical/positions", History, "positions"),
    Call("GET /portfolio/subaccounts/balances", Subaccounts, "balances"),
    Call("GET /portfolio/subaccounts/transfers", Subaccounts, "transfers"),
    Call("GET /portfolio/subaccounts/netting", Subaccounts, "netting"),
    Call("GET /portfolio/intra_exchange_instance_transfers", Subaccounts, "shard_transfers"),
    Call(
        "GET /portfolio/intra_exchange_instance_transfers/{transfer_id}",
        Subaccounts,
        "shard_transfer",
        ("t-1",),
    ),
    Call("GET /portfolio/target_balance_allocation", Subaccounts, "target_allocation"),
)
WRITES = (
    Call("POST /portfolio/events/orders", Orders, "send_create", (CREATE, 1)),
    Call("POST /portfolio/events/orders/batched", Orders, "send_batch", ([CREATE], 1), fit=_without_error),
    Call("POST /portfolio/events/orders/{order_id}/amend", Orders, "send_amend", (ORDER_ID, AMEND, 1)),
    Call(
        "POST /portfolio/events/orders/{order_id}/decrease",
        Orders,
        "decrease",
        (ORDER_ID,),
        {"market_ticker": TICKER, "reduce_to": Decimal(1)},
    ),
    Call(
        "DELETE /portfolio/events/orders/{order_id}",
        Orders,
        "cancel",
        (ORDER_ID,),
        {"market_ticker": TICKER},
    ),
    Call(
        "DELETE /portfolio/events/orders/batched",
        Orders,
        "cancel_batch",
        ([CancelTarget(ORDER_ID, TICKER)],),
        fit=_without_error,
    ),
    Call("DELETE /portfolio/events/orders", Orders, "cancel_all"),
    Call(
        "POST /portfolio/order_groups/create",
        OrderGroups,
        "create",
        named={"contracts_in_15s": Decimal(9), "exchange_index": SHARD},
    ),
    Call(
        "PUT /portfolio/order_groups/{order_group_id}/limit",
        OrderGroups,
        "limit",
        ("g-1",),
        {"contracts_in_15s": Decimal(9)},
    ),
    Call("PUT /portfolio/order_groups/{order_group_id}/trigger", OrderGroups, "trigger", ("g-1",)),
    Call("PUT /portfolio/order_groups/{order_group_id}/reset", OrderGroups, "reset", ("g-1",)),
    Call("DELETE /portfolio/order_groups/{order_group_id}", OrderGroups, "delete", ("g-1",)),
    Call("POST /portfolio/subaccounts", Transfers, "create_subaccount"),
    Call(
        "POST /portfolio/subaccounts/transfer",
        Transfers,
        "between_subaccounts",
        named={
            "amount": Decimal(1),
            "from_subaccount": 0,
            "to_subaccount": 1,
            "transfer_id": uuid.UUID(int=7),
        },
    ),
    Call(
        "PUT /portfolio/subaccounts/netting",
        Transfers,
        "set_netting",
        named={"subaccount": 1, "enabled": True},
    ),
    Call(
        "POST /portfolio/intra_exchange_instance_transfer",
        Transfers,
        "between_shards",
        named={"amount": Decimal(1), "source_shard": 0, "destination_shard": 1},
    ),
    Call("POST /portfolio/target_balance_allocation", Transfers, "set_target_allocation", ({0: 100},)),
    Call(
        "POST /api_keys",
        ApiKeys,
        "create",
        named={"name": "n", "public_key": "p", "scopes": ["read"]},
    ),
    Call(
        "POST /api_keys/generate",
        ApiKeys,
        "generate",
        named={"name": "n", "key_type": "rsa", "scopes": ["read"]},
    ),
    Call("DELETE /api_keys/{api_key}", ApiKeys, "delete", ("k-1",)),
)
