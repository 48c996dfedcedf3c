"""Rows of trading: the catalogue of markets, their quotes, orders and fills. One file per aggregate."""

from trading.models.cycle import Cycle
from trading.models.fill import Fill
from trading.models.market import Market
from trading.models.order import Order, OrderEvent
from trading.models.quote import Quote

__all__ = ["Cycle", "Fill", "Market", "Order", "OrderEvent", "Quote"]
