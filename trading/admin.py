"""Orders, fills and markets in the admin: read-only, each order with its history."""

from __future__ import annotations

from django.contrib import admin

from kalshi_site.readonly import ReadOnly, ReadOnlyInline
from trading.models import Cycle, Fill, Market, Order, OrderEvent, WorkItem, WorkItemEvent


class OrderEventInline(ReadOnlyInline):
    """An order's history."""

    model = OrderEvent


@admin.register(Order)
class OrderAdmin(ReadOnly):
    """Orders; canceled on the page, by REST or by command, never here."""

    list_display = (
        *("created_at", "public_id", "__str__", "limit_price", "filled_quantity", "average_price", "fees"),
    )
    list_filter = ("state", "side", "origin", "venue")
    search_fields = ("public_id", "client_order_id", "venue_order_id", "ticker")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    inlines = (OrderEventInline,)


@admin.register(Fill)
class FillAdmin(ReadOnly):
    """Executions as the exchange reported them."""

    list_display = ("at", "public_id", "action", "quantity", "side", "ticker", "yes_price", "fee", "is_taker")
    list_filter = ("side", "is_taker", "venue")
    search_fields = ("public_id", "trade_id", "venue_order_id", "ticker")
    date_hierarchy = "at"
    ordering = ("-at",)


@admin.register(Market)
class MarketAdmin(ReadOnly):
    """The exchange's catalogue as last read."""

    list_display = ("ticker", "title", "status", "close_at", "last_price", "volume", "result")
    list_filter = ("status", "category")
    search_fields = ("ticker", "title", "event_ticker")
    ordering = ("close_at",)


@admin.register(Cycle)
class CycleAdmin(ReadOnly):
    """Rounds of the loops: why there was no trade."""

    list_display = ("started_at", "loop", "finished_at", "outcome")
    list_filter = ("loop",)
    ordering = ("-started_at",)


class WorkItemEventInline(ReadOnlyInline):
    """What happened to a difference."""

    model = WorkItemEvent


@admin.register(WorkItem)
class WorkItemAdmin(ReadOnly):
    """Differences with the exchange; acknowledged and resolved on their page, by REST, never here."""

    list_display = (
        "first_at",
        "public_id",
        "kind",
        "subject",
        "severity",
        "state",
        "theirs",
        "ours",
        "looks",
    )
    list_filter = ("state", "kind", "severity", "venue")
    search_fields = ("public_id", "subject", "order", "ticker")
    ordering = ("-first_at",)
    inlines = (WorkItemEventInline,)
