"""How numbers stand on a page. The rules of form live in `trading.domain.prices`; here they become filters and marks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trading.domain import prices

register = template.Library()

UNKNOWN = "–"


@register.filter
def cents(price: Decimal | None) -> str:
    """`38.0¢`: one decimal at least, so that points stand in a line."""
    return prices.cents_text(price, fine=True)


@register.filter
def dollars(amount: Decimal | None) -> str:
    return prices.dollars_text(amount)


@register.filter
def signed(amount: Decimal | None) -> str:
    """`+$7.62` or `−$47.58`."""
    return prices.dollars_text(amount, signed=True)


@register.filter
def percent(probability: Decimal | None) -> str:
    return prices.percent_text(probability)


@register.filter
def edge(price: Decimal | None) -> str:
    """A gain per contract in cents, with one decimal: `6.4¢`, `−0.8¢`."""
    if price is None:
        return UNKNOWN
    return f"{'−' if price < 0 else ''}{abs(price) * 100:.1f}¢"


@register.filter
def quantity(count: Decimal | None) -> str:
    return prices.count_text(count)


@register.filter
def gain(amount: Decimal | None) -> SafeString | str:
    """Money won or lost: arrow, sign and colour together; plain when zero or unknown."""
    if amount is None or amount == 0:
        return prices.dollars_text(amount)
    tone, arrow = ("gain", "▲") if amount > 0 else ("loss", "▼")
    return format_html(
        '<span class="{}"><i class="ar">{}</i>{}</span>', tone, arrow, prices.dollars_text(amount, signed=True)
    )


@register.filter
def side(name: str | None) -> SafeString | str:
    """YES or NO in its colour, always as the word."""
    if name not in ("yes", "no"):
        return UNKNOWN
    return format_html('<span class="{}">{}</span>', name, name.upper())


@register.filter
def held(signed: Decimal) -> SafeString:
    """`100 YES` or `60 NO` of a signed holding."""
    return format_html("<b>{} {}</b>", prices.count_text(abs(signed)), side("yes" if signed > 0 else "no"))


@register.filter
def held_text(signed: Decimal) -> str:
    """The same without colour, for titles."""
    return f"{prices.count_text(abs(signed))} {'YES' if signed > 0 else 'NO'}"


@register.filter
def minus(amount: Decimal | None) -> Decimal | None:
    """A cost as a loss."""
    return None if amount is None else -amount


@register.filter
def deed(verb: str) -> str:
    """`proposal.pending` becomes `Proposed`; what has no own words reads `Entry spent`."""
    own = {
        "proposal.pending": "Proposed",
        "proposal.claimed": "Sent out",
        "trading.halt": "Stopped trading",
        "trading.pause": "Paused trading",
        "trading.resume": "Resumed trading",
        "order.cancel_requested": "Asked to cancel",
        "entry.spent": "Entered by link",
    }
    plain = verb.removeprefix("proposal.").replace(".", " ").replace("_", " ").capitalize()
    return own.get(verb, plain)


@register.filter
def other(price: Decimal | None) -> Decimal | None:
    """The same price on the other side's scale."""
    return None if not price else prices.complement(price)


@register.filter
def words(name: str) -> str:
    """`partially_filled` becomes `partially filled`."""
    return str(name).replace("_", " ")


@register.filter
def clock(moment: datetime | None) -> str:
    """`14:05:30` in UTC; `–` when it did not happen."""
    return f"{moment.astimezone(UTC):%H:%M:%S}" if moment else UNKNOWN


@register.filter
def day_clock(moment: datetime | None) -> str:
    """`14:05:30` for today, `22 Nov 14:05` for other days."""
    if moment is None:
        return UNKNOWN
    return f"{moment:%H:%M:%S}" if moment.date() == timezone.now().date() else f"{moment.day} {moment:%b %H:%M}"


@register.filter
def millis(moment: datetime | None) -> str:
    """Milliseconds since 1970, for the scripts."""
    return "" if moment is None else str(int(moment.timestamp() * 1000))


@register.filter
def span(length: timedelta | None) -> str:
    """`18 d`, `9 h 56 min`, `11 min`, `24 s`; `over` when negative, `–` when unknown."""
    if length is None:
        return UNKNOWN
    seconds = int(length.total_seconds())
    if seconds < 0:
        return "over"
    days, hours, minutes = seconds // 86400, seconds // 3600, seconds // 60
    if days:
        return f"{days} d"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


@register.filter
def until(moment: datetime | None) -> str:
    """The time left to a moment."""
    return UNKNOWN if moment is None else span(moment - timezone.now())


@register.filter
def left(moment: datetime) -> str:
    """`1:24`, as the countdown script shows it."""
    seconds = max(0, -(-int((moment - timezone.now()).total_seconds() * 1000) // 1000))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@register.filter
def urgency(moment: datetime) -> str:
    """`soon` below 90 s, `now` below 10 s: the same steps as the script's."""
    seconds = (moment - timezone.now()).total_seconds()
    return "now" if seconds <= 10 else "soon" if seconds <= 90 else ""


@register.filter
def ago(moment: datetime | None) -> str:
    """`0.4 s` since then; `–` when never."""
    if moment is None:
        return UNKNOWN
    seconds = max(0.0, (timezone.now() - moment).total_seconds())
    return f"{seconds:.1f} s" if seconds < 60 else span(timedelta(seconds=seconds))


@register.inclusion_tag("trading/_risk.html")
def risk_badge(level: str, big: bool = False) -> dict[str, Any]:
    """The risk level: filled bars and the word."""
    bars = {"LOW": 1, "MEDIUM": 2, "HIGH": 3, "BLOCKED": 3}.get(level, 0)
    tone = {"MEDIUM": "medium", "HIGH": "high", "BLOCKED": "high"}.get(level, "low")
    shapes = [(0, 8, 4), (5, 4, 8), (10, 0, 12)]
    return {"level": level, "tone": tone, "big": big, "bars": [(*s, n < bars) for n, s in enumerate(shapes)]}


@register.inclusion_tag("trading/_deadline.html")
def deadline(at: datetime, since: datetime) -> dict[str, Any]:
    """The ring and the seconds that are left of the time between `since` and `at`."""
    return ring_of(at, since)


@register.simple_tag
def ring(at: datetime, since: datetime) -> dict[str, Any]:
    """The numbers of a ring that the page draws itself."""
    return ring_of(at, since)


def ring_of(at: datetime, since: datetime) -> dict[str, Any]:
    """What the ring draws: share left in percent, and the whole time in seconds."""
    whole = max(1.0, (at - since).total_seconds())
    share = max(0, min(100, round((at - timezone.now()).total_seconds() / whole * 100)))
    return {"at": at, "share": share, "window": round(whole)}


def _x(price: Decimal | None) -> str | None:
    return None if price is None else f"{price * 100:.2f}%"


def _width(low: Decimal | None, high: Decimal | None) -> str | None:
    return None if low is None or high is None else f"{abs(high - low) * 100:.2f}%"


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
        "est_x": _x(estimate), "low_x": _x(low), "high_x": _x(high), "edge_x": _x(edge), "edge_w": _width(limit, estimate),
        "gap": None if estimate is None else abs(estimate - limit),
        "label_end": limit > Decimal("0.15"),
        "est_label_x": _x(high if high is not None else estimate),
        "est_label_end": estimate is not None and estimate > Decimal("0.8"),
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
    return {"share": prices.percent_text(share), "width": f"{min(share * 86, Decimal(100)):.1f}%", "tone": tone}


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
