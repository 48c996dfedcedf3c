"""Kalshi's official SDK visits every operation of the surface once. Runs in the SDK's own environment.

Configuration comes as one JSON object on standard input: `host`, `key_id`, `key_file`, `ticker` (open, with orders on
both sides), `settled` (a finalized market), `event`, `series`. Writes one JSON line per step on standard output:
`{"call", "ok", "error"}`. It imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import kalshi_python_sync as sdk
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

GTC = {"time_in_force": "good_till_canceled", "self_trade_prevention_type": "taker_at_cross"}


class Tour:
    """One client, and what each step of it said."""

    def __init__(self, given: dict[str, str]) -> None:
        config = sdk.Configuration(host=given["host"])
        config.api_key_id = given["key_id"]
        with open(given["key_file"], encoding="ascii") as pem:  # noqa: PTH123
            config.private_key_pem = pem.read()
        self.client = sdk.KalshiClient(config)
        self.ticker, self.settled = given["ticker"], given["settled"]
        self.event, self.series = given["event"], given["series"]

    def call(self, name: str, /, *arguments: Any, **fields: Any) -> Any:
        """A step that must succeed; its answer, or None."""
        try:
            answer = getattr(self.client, name)(*arguments, **fields)
        except Exception as error:  # every kind of failure is a finding
            say(name, f"{type(error).__name__}: {getattr(error, 'body', None) or error}")
            return None
        say(name)
        return answer

    def refused(self, status: int, name: str, /, *arguments: Any, **fields: Any) -> None:
        """A step that must be refused with this status."""
        try:
            getattr(self.client, name)(*arguments, **fields)
        except sdk.ApiException as error:
            fits = error.status == status
            say(f"{name} refused", "" if fits else f"HTTP {error.status} instead of {status}: {error.body}")
        except Exception as error:
            say(f"{name} refused", f"{type(error).__name__}: {error}")
        else:
            say(f"{name} refused", f"success instead of {status}")

    def order(self, side: str, price: str, count: str, **more: Any) -> dict[str, Any]:
        given = {"ticker": self.ticker, "client_order_id": str(uuid.uuid4()), "side": side, "price": price}
        return {**given, "count": count, **GTC, **more}


def say(call: str, error: str = "") -> None:
    print(json.dumps({"call": call, "ok": not error, "error": error[:600]}), flush=True)


def public(tour: Tour) -> None:
    now = int(time.time())
    span = {"start_ts": now - 3600, "end_ts": now + 60, "period_interval": 1}
    tour.call("get_exchange_status")
    tour.call("get_exchange_schedule")
    tour.call("get_user_data_timestamp")
    tour.call("get_series_list")
    tour.call("get_series", tour.series)
    tour.call("get_series_fee_changes", series_ticker=tour.series, show_historical=True)
    tour.call("get_events", limit=10, with_nested_markets=True, status="open")
    tour.call("get_multivariate_events", limit=10)
    tour.call("get_event", tour.event, with_nested_markets=True)
    tour.call("get_event_metadata", tour.event)
    tour.call("get_event_fee_changes", limit=10)
    tour.call("get_markets", limit=10, event_ticker=tour.event)
    tour.call("get_market", tour.ticker)
    tour.call("get_market_orderbook", tour.ticker, depth=5)
    tour.call("get_market_orderbooks", [tour.ticker])
    tour.call("get_trades", limit=10, ticker=tour.ticker)
    tour.call("get_market_candlesticks", tour.series, tour.ticker, **span)
    tour.call("batch_get_market_candlesticks", market_tickers=tour.ticker, **span)
    tour.call("get_market_candlesticks_by_event", tour.event, tour.series, **span)
    tour.refused(404, "get_market", "NO-SUCH-MARKET")


def historical(tour: Tour) -> None:
    now = int(time.time())
    tour.call("get_historical_cutoff")
    tour.call("get_historical_markets", limit=10)
    tour.call("get_historical_market", tour.settled)
    span = {"start_ts": now - 7200, "end_ts": now, "period_interval": 1}
    tour.call("get_market_candlesticks_historical", tour.settled, **span)
    tour.call("get_trades_historical", limit=10)
    tour.call("get_fills_historical", limit=10)
    tour.call("get_historical_orders", limit=10)
    tour.call("get_historical_positions", limit=10)


def orders(tour: Tour) -> None:
    create: Callable[..., Any] = lambda *a, **k: tour.call("create_order_v2", **tour.order(*a, **k))  # noqa: E731
    create("bid", "0.4200", "1.50")  # takes
    resting = create("bid", "0.0100", "5.00", expiration_time=int(time.time()) + 600)
    again = tour.order("bid", "0.0100", "1.00")
    tour.call("create_order_v2", **again)
    tour.refused(409, "create_order_v2", **again)
    tour.refused(400, "create_order_v2", **tour.order("bid", "0.01234", "1"))
    create("ask", "0.9900", "1.00", time_in_force="immediate_or_cancel")
    tour.refused(409, "create_order_v2", **tour.order("bid", "0.0200", "1", time_in_force="fill_or_kill"))
    tour.refused(400, "create_order_v2", **tour.order("bid", "0.9000", "1", post_only=True))
    tour.call("get_orders", ticker=tour.ticker, status="resting", limit=10)
    tour.call("get_order_queue_positions", market_tickers=tour.ticker)
    if resting is not None:
        order_id = resting.order_id
        tour.call("get_order", order_id)
        tour.call("get_order_queue_position", order_id)
        tour.call("amend_order_v2", order_id, ticker=tour.ticker, side="bid", price="0.0200", count="4.00")
        tour.call("decrease_order_v2", order_id, reduce_by="1.00", market_ticker=tour.ticker)
        tour.call("cancel_order_v2", order_id, market_ticker=tour.ticker)
        tour.refused(404, "cancel_order_v2", order_id, market_ticker=tour.ticker)
    batch = [
        tour.order("bid", "0.0100", "1"),
        tour.order("bid", "0.01234", "1"),
        tour.order("bid", "0.0200", "1"),
    ]
    made = tour.call("batch_create_orders_v2", orders=[sdk.CreateOrderV2Request(**each) for each in batch])
    ids = [each.order_id for each in (made.orders if made else ()) if each.order_id]
    items = [{"order_id": each, "market_ticker": tour.ticker} for each in (*ids, "no-such-order")]
    tour.call("batch_cancel_orders_v2", orders=items)
    tour.call("cancel_all_orders")


def groups(tour: Tour) -> None:
    made = tour.call("create_order_group", contracts_limit_fp="10.00")
    tour.call("get_order_groups")
    if made is None:
        return
    group = made.order_group_id
    tour.call("create_order_v2", **tour.order("bid", "0.0100", "2.00", order_group_id=group))
    tour.call("get_order_group", group)
    tour.call("update_order_group_limit", group, contracts_limit_fp="20.00")
    tour.call("trigger_order_group", group)
    tour.refused(400, "create_order_v2", **tour.order("bid", "0.0100", "1.00", order_group_id=group))
    tour.call("reset_order_group", group)
    tour.call("create_order_v2", **tour.order("bid", "0.0100", "1.00", order_group_id=group))
    tour.call("delete_order_group", group)


def portfolio(tour: Tour) -> None:
    tour.call("get_balance")
    tour.call("get_positions", limit=10, settlement_status="all")
    tour.call("get_fills", limit=10, ticker=tour.ticker)
    tour.call("get_settlements", limit=10)
    tour.call("get_deposits", limit=10)
    tour.call("get_withdrawals", limit=10)
    tour.call("get_portfolio_resting_order_total_value")


def subaccounts(tour: Tour) -> None:
    made = tour.call("create_subaccount")
    number = made.subaccount_number if made else 1
    transfer = {"client_transfer_id": str(uuid.uuid4()), "from_subaccount": 0, "to_subaccount": number}
    tour.call("apply_subaccount_transfer", **transfer, amount_cents=1000)
    tour.refused(409, "apply_subaccount_transfer", **transfer, amount_cents=1000)
    tour.call("get_subaccount_balances")
    tour.call("get_subaccount_transfers", limit=10)
    tour.call("update_subaccount_netting", subaccount_number=number, enabled=True)
    tour.call("get_subaccount_netting")
    tour.call("create_order_v2", **tour.order("bid", "0.4200", "1.00", subaccount=number))
    tour.call("get_positions", subaccount=number)


def shards(tour: Tour) -> None:
    moved = tour.call(
        "intra_exchange_instance_transfer",
        source="event_contract",
        destination="event_contract",
        amount=10_000,
        source_exchange_shard=0,
        destination_exchange_shard=1,
    )
    tour.call("get_intra_exchange_instance_transfers")
    if moved is not None:
        tour.call("get_intra_exchange_instance_transfer", moved.transfer_id)
    tour.call("get_target_balance_allocation")
    tour.call("set_target_balance_allocation", **allocation())
    tour.call("get_balance", exchange_index=1)


def allocation() -> dict[str, Any]:
    """Half of the cash to each of two shards."""
    shares = [{"exchange_index": 0, "percent": 50}, {"exchange_index": 1, "percent": 50}]
    return {"allocations": shares}


def account(tour: Tour) -> None:
    tour.call("get_account_api_limits")
    tour.call("get_account_endpoint_costs")


def api_keys(tour: Tour) -> None:
    tour.call("get_api_keys")
    public_key = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    made = tour.call("create_api_key", name="tour", public_key=pem, scopes=["read"])
    tour.call("generate_api_key", name="tour two", scopes=["read"])
    if made is not None:
        tour.call("delete_api_key", made.api_key_id)


def main() -> None:
    tour = Tour(json.load(sys.stdin))
    for part in (public, orders, groups, portfolio, historical, subaccounts, shards, account, api_keys):
        part(tour)


if __name__ == "__main__":
    main()
