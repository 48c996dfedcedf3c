"""What is drawn: price rules, the life of an order, bars at a wall. Geometry as attributes; paint by class."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import template

from trading.domain import prices
from trading.domain.candles import Candle

register = template.Library()


def _x(price: Decimal | None) -> str | None:
    return None if price is None else f"{price * 100:.2f}%"


def _width(low: Decimal | None, high: Decimal | None) -> str | None:
    return None if low is None or high is None else f"{abs(high - low) * 100:.2f}%"


def _edge_of_scale(estimate: Decimal | None, limit: Decimal) -> str | None:
    """Where the analyst's label goes when it would run out of the picture: to the end of the scale, above the marks."""
    if estimate is None:
        return None
    if estimate > limit:
        return "100%" if estimate > Decimal("0.82") else None
    return "0%" if estimate < Decimal("0.18") else None


@register.inclusion_tag("trading/_price_rule.html")
def price_rule(
    limit: Decimal,
    bid: Decimal | None,
    ask: Decimal | None,
    estimate: Decimal | None,
    low: Decimal | None,
    high: Decimal | None,
    side: str,
) -> dict[str, Any]:
    """One scale from 0 to 100¢: grey band = market, bar = our limit, diamond = analyst with range."""
    edge = None if estimate is None else min(limit, estimate)
    return {
        "side": side, "limit": limit, "bid": bid, "ask": ask, "estimate": estimate, "low": low, "high": high,
        "limit_x": _x(limit), "band_x": _x(bid), "band_w": _width(bid, ask),
        "est_x": _x(estimate), "low_x": _x(low), "high_x": _x(high),
        "edge_x": _x(edge), "edge_w": _width(limit, estimate),
        "gap": None if estimate is None else abs(estimate - limit),
        "est_edge": _edge_of_scale(estimate, limit),
        "label_end": limit > Decimal("0.15"),
        "est_label_x": _x(high if high is not None else estimate),
        "est_label_start_x": _x(low if low is not None else estimate),
        "ticks": [(f"{n * 10}%", 26 if n % 5 == 0 else 30, 40 if n % 5 == 0 else 36) for n in range(11)],
    }  # fmt: skip


@register.inclusion_tag("trading/_price_rule_small.html")
def price_rule_small(
    limit: Decimal,
    bid: Decimal | None,
    ask: Decimal | None,
    estimate: Decimal | None,
    low: Decimal | None,
    high: Decimal | None,
) -> dict[str, Any]:
    """The same marks in a row of the queue, 168 px wide."""

    def x(price: Decimal | None) -> str | None:
        return None if price is None else f"{4 + price * 160:.1f}"

    def width(a: Decimal | None, b: Decimal | None) -> str | None:
        return None if a is None or b is None else f"{max(abs(b - a) * 160, Decimal(2)):.1f}"

    edge = None if estimate is None else min(limit, estimate)
    return {
        "limit_x": x(limit), "band_x": x(bid), "band_w": width(bid, ask), "est_x": x(estimate),
        "low_x": x(low), "high_x": x(high), "edge_x": x(edge), "edge_w": width(limit, estimate),
    }  # fmt: skip


@register.inclusion_tag("trading/_move_rule.html")
def move_rule(average: Decimal | None, mark: Decimal | None) -> dict[str, Any]:
    """From the average price (bar) to the mark (dot), 120 px wide."""

    def x(price: Decimal | None) -> str | None:
        return None if price is None else f"{4 + price * 112:.1f}"

    up = average is not None and mark is not None and mark >= average
    return {"average_x": x(average), "mark_x": x(mark), "up": up}


@register.inclusion_tag("trading/_use_bar.html")
def use_bar(used: Decimal, limit: Decimal) -> dict[str, Any]:
    """A bar that runs at its limit's wall, which stands at 86 % of the width."""
    share = used / limit if limit else Decimal(0)
    tone = "over" if share > 1 else "near" if share > Decimal("0.75") else "was"
    return {
        "share": prices.percent_text(share),
        "width": f"{min(share * 86, Decimal(100)):.1f}%",
        "tone": tone,
    }


@register.inclusion_tag("trading/_sparkline.html")
def sparkline(candles: list[Candle]) -> dict[str, Any]:
    """The traded price at the end of each minute as a line, volume below; from the first known price on.

    A minute without a trade carries the last price; before the first trade there is no line.
    """
    known = [(each, each.last) for each in candles if each.last is not None]
    if len(known) < 2:
        return {"points": "", "traded": any(each.volume for each in candles)}
    closes = [price for _, price in known]
    low, high = min(closes), max(closes)
    room = max(high - low, Decimal("0.01"))
    most = max(each.volume for each, _ in known) or Decimal(1)
    step = Decimal(1000) / (len(known) - 1)
    points = (f"{n * step:.1f},{(high - price) / room * 72 + 4:.1f}" for n, price in enumerate(closes))
    width = max(step * Decimal("0.6"), Decimal(2))
    apart = (1000 - width) / (len(known) - 1)  # the last bar ends where the line does
    heights = ((n * apart, each.volume / most * 18) for n, (each, _) in enumerate(known) if each.volume)
    return {
        "points": " ".join(points),
        "bars": [(f"{x:.1f}", f"{100 - height:.1f}", f"{height:.1f}") for x, height in heights],
        "width": f"{width:.1f}",
        "low": low, "high": high, "first": closes[0], "last": closes[-1],
        "from": _at(known[0][0]), "to": _at(known[-1][0]),
        "volume": sum((each.volume for each, _ in known), Decimal(0)),
        "holes": sum(not each.is_whole for each, _ in known),
        "candles": [(_at(each), each) for each, _ in known[:-13:-1]],
    }  # fmt: skip


def _at(candle: Candle) -> datetime:
    return datetime.fromtimestamp(candle.end_ms / 1000, UTC)


@register.inclusion_tag("trading/_life.html")
def life(order: Any) -> dict[str, Any]:
    """Sent, acknowledged, rests, filled: the order's way as four points."""
    reached = 1 if order.signed_at or order.attempts else 0
    if order.acknowledged_at:
        reached = 3 if order.state in ("resting", "partially_filled") else 2
    if order.state == "filled":
        reached = 4
    bad = order.state in ("unknown", "rejected", "not_sent", "absent")
    points = [(6 + n * 20, n < reached) for n in range(4)]
    return {"points": points, "reach": 20 * max(reached - 1, 0), "bad": bad, "order": order}
