"""Rows of trading: the catalogue of markets, their quotes, orders, fills and differences. One file per aggregate."""

from trading.models.candle import Candle
from trading.models.catalogue import Event, Series
from trading.models.cycle import Cycle
from trading.models.drift import DriftNote, Listener
from trading.models.exchange_state import ExchangeState
from trading.models.fee_change import FeeChange
from trading.models.fill import Fill
from trading.models.liquidation import Liquidation, LiquidationEvent
from trading.models.market import Market
from trading.models.order import Order, OrderEvent
from trading.models.order_group import OrderGroup
from trading.models.quote import Quote
from trading.models.work_item import WorkItem, WorkItemEvent, WorkKind, WorkState

__all__ = [
    "Candle",
    "Cycle",
    "DriftNote",
    "Event",
    "ExchangeState",
    "FeeChange",
    "Fill",
    "Liquidation",
    "LiquidationEvent",
    "Listener",
    "Market",
    "Order",
    "OrderEvent",
    "OrderGroup",
    "Quote",
    "Series",
    "WorkItem",
    "WorkItemEvent",
    "WorkKind",
    "WorkState",
]
