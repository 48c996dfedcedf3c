"""How numbers stand on a page. Their form is fixed in `trading.domain.prices`; here it becomes filters and marks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeVar

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trading.domain import prices

register = template.Library()

UNKNOWN = "–"

T = TypeVar("T")
# Django hands a filter "" where a variable leads nowhere: that is as unknown as None.
Missing = Literal[""] | None
Amount = Decimal | Missing
Moment = datetime | Missing


def _known(value: T | Missing) -> T | None:
    return None if value == "" else value


@register.filter
def cents(price: Amount) -> str:
    """`38.0¢`: one decimal at least, so that points stand in a line."""
    return prices.cents_text(_known(price), fine=True)


@register.filter
def average(price: Amount) -> str:
    """A mean of prices, which has no grid of its own: to a tenth of a cent."""
    mean = _known(price)
    return prices.cents_text(None if mean is None else mean.quantize(Decimal("0.001")), fine=True)


@register.filter
def dollars(amount: Amount) -> str:
    return prices.dollars_text(_known(amount))


@register.filter
def signed(amount: Amount) -> str:
    """`+$7.62` or `−$47.58`."""
    return prices.dollars_text(_known(amount), signed=True)


@register.filter
def percent(probability: Amount) -> str:
    return prices.percent_text(_known(probability))


@register.filter
def edge(price: Amount) -> str:
    """A gain per contract in cents, with one decimal: `6.4¢`, `−0.8¢`."""
    gained = _known(price)
    if gained is None:
        return UNKNOWN
    return f"{'−' if gained < 0 else ''}{abs(gained) * 100:.1f}¢"


@register.filter
def quantity(count: Amount) -> str:
    return prices.count_text(_known(count))


@register.filter
def gain(amount: Amount) -> SafeString | str:
    """Money won or lost: arrow, sign and colour together; plain when zero or unknown."""
    if not amount:
        return dollars(amount)
    tone, arrow = ("gain", "▲") if amount > 0 else ("loss", "▼")
    return format_html(
        '<span class="{}"><i class="ar">{}</i>{}</span>',
        tone,
        arrow,
        prices.dollars_text(amount, signed=True),
    )


@register.filter
def side(name: str | None) -> SafeString | str:
    """YES or NO in its colour, always as the word."""
    if name not in ("yes", "no"):
        return UNKNOWN
    return format_html('<span class="{}">{}</span>', name, name.upper())


@register.filter
def held(signed: Amount) -> SafeString | str:
    """`100 YES` or `60 NO` of a signed holding."""
    count = _known(signed)
    if count is None:
        return UNKNOWN
    return format_html("<b>{} {}</b>", prices.count_text(abs(count)), side("yes" if count > 0 else "no"))


@register.filter
def held_text(signed: Amount) -> str:
    """The same without colour, for titles."""
    count = _known(signed)
    if count is None:
        return UNKNOWN
    return f"{prices.count_text(abs(count))} {'YES' if count > 0 else 'NO'}"


@register.filter
def minus(amount: Amount) -> Decimal | None:
    """A cost as a loss."""
    cost = _known(amount)
    return None if cost is None else -cost


@register.filter
def deed(verb: str) -> str:
    """`proposal.pending` becomes `Proposed`; what has no own words reads `Entry spent`."""
    own = {
        "proposal.pending": "Proposed",
        "proposal.claimed": "Sent out",
        "trading.halt": "Stopped trading",
        "trading.pause": "Paused trading",
        "trading.resume": "Resumed trading",
        "order.fill": "Filled",
        "exchange.state": "Heard from the exchange",
        "drift.note": "Noted a change at the exchange",
        "drift.acknowledge": "Acknowledged a change at the exchange",
        "order.cancel_requested": "Asked to cancel",
        "work.open": "Found a difference with the exchange",
        "work.acknowledge": "Acknowledged a difference",
        "work.resolve": "Resolved a difference",
        "autonomy.raise": "Gave the analyst more room",
        "autonomy.lower": "Gave the analyst less room",
        "limit.set": "Changed a limit",
        "trading.liquidate": "Asked to sell everything",
        "liquidation.done": "Ended the liquidation",
        "entry.spent": "Entered by link",
    }
    plain = verb.removeprefix("proposal.").replace(".", " ").replace("_", " ").capitalize()
    return own.get(verb, plain)


@register.filter
def other(price: Amount) -> Decimal | None:
    """The same price on the other side's scale."""
    return None if not price else prices.complement(price)


@register.filter
def origin(name: str) -> str:
    """Where an order without a proposal came from."""
    return {"external": "placed elsewhere", "orphan": "ours, without a record"}.get(name, name)


@register.filter
def words(name: str) -> str:
    """`partially_filled` becomes `partially filled`."""
    return str(name).replace("_", " ")


@register.filter
def clock(moment: Moment) -> str:
    """`14:05:30` in UTC; `–` when it did not happen."""
    return f"{moment.astimezone(UTC):%H:%M:%S}" if moment else UNKNOWN


@register.filter
def day_clock(moment: Moment) -> str:
    """`14:05:30` for today, `22 Nov 14:05` for other days."""
    if not moment:
        return UNKNOWN
    return (
        f"{moment:%H:%M:%S}" if moment.date() == timezone.now().date() else f"{moment.day} {moment:%b %H:%M}"
    )


@register.filter
def millis(moment: Moment) -> str:
    """Milliseconds since 1970, for the scripts."""
    return str(int(moment.timestamp() * 1000)) if moment else ""


@register.filter
def span(length: timedelta | Missing) -> str:
    """`18 d`, `9 h 56 min`, `11 min`, `24 s`; `over` when negative, `–` when unknown."""
    left = _known(length)
    if left is None:
        return UNKNOWN
    seconds = int(left.total_seconds())
    if seconds < 0:
        return "over"
    days, hours, minutes = seconds // 86400, seconds // 3600, seconds // 60
    if days:
        return f"{days} d"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


@register.filter
def until(moment: Moment) -> str:
    """The time left to a moment."""
    return span(moment - timezone.now()) if moment else UNKNOWN


@register.filter
def closes(moment: Moment) -> str:
    """`in 11 min` to a market's close, then `closed`."""
    if not moment:
        return UNKNOWN
    return "closed" if moment <= timezone.now() else f"in {until(moment)}"


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
def ago(moment: Moment) -> str:
    """`0.4 s` since then; `–` when never."""
    if not moment:
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
