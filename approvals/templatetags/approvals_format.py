"""A proposal as its page shows it: frozen numbers read back, and the geometry of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import template

from approvals.domain.lifecycle import ProposalState
from approvals.domain.stakes import Stakes, stakes
from approvals.models import Proposal
from approvals.proposals import CLOSE_SLIPPAGE
from trading.domain.orders import Side
from trading.domain.prices import cents_text, complement, count_text, dollars_text

register = template.Library()

WALL = Decimal(84)  # where a limit stands on every bar, in percent of the width; the rest is for the numbers
HEIGHT = Decimal(45)  # the taller of the two payoff areas, in pixels
NARROW = Decimal(22)  # percent: an area below this width cannot hold its number
MEASURES = ("event_exposure", "total_exposure", "cash_committed", "position", "order_notional")
ORDER = {"block": 0, "warn": 1, "pass": 2}
LOOK = {"block": ("deny", "x", "Deny"), "warn": ("warn", "warn", "Warn"), "pass": ("pass", "ok", "Pass")}
OUTCOMES = {
    ProposalState.APPROVED: "approved; execution takes it next",
    ProposalState.CLAIMED: "approved and handed to execution",
    ProposalState.DECLINED: "declined, not traded",
    ProposalState.DENIED: "denied by our rules; no decision is possible and nothing was traded",
    ProposalState.EXPIRED: "expired, not traded",
    ProposalState.SUPERSEDED: "replaced by a newer proposal, not traded",
    ProposalState.SENT_BACK: "sent back to its proposer, not traded",
    ProposalState.WITHDRAWN: "withdrawn by its proposer, not traded",
    ProposalState.VOIDED: "approved, but not sent",
}


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One rule's frozen answer."""

    label: str
    text: str
    tone: str
    icon: str
    word: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One limit: before, added, and its wall. Widths in percent of the picture, `y` in pixels."""

    label: str
    before: str
    after: str
    limit: str
    used: str
    tone: str
    was_width: str
    add_x: str
    add_width: str
    y: int

    @property
    def base(self) -> int:
        return self.y + 16

    @property
    def track(self) -> int:
        return self.y + 6


@dataclass(frozen=True, slots=True)
class Payoff:
    """Width is chance, height is money. Percent and pixels."""

    wrong_width: str
    right_x: str
    right_width: str
    wrong_height: str
    right_height: str
    right_y: str
    wrong_chance: Decimal
    market_x: str | None
    market_label_left: bool
    loss_x: str
    gain_x: str


@dataclass(frozen=True, slots=True)
class Card:
    """Everything on a proposal's page that is not a plain column. Prices on the proposal's own side."""

    stakes: Stakes
    bid: Decimal | None
    ask: Decimal | None
    estimate: Decimal | None
    low: Decimal | None
    high: Decimal | None
    market_chance: Decimal | None
    claims: list[dict[str, str]]
    model: str
    checks: list[CheckRow]
    passed: int
    warned: int
    denied: int
    bars: list[Bar]
    payoff: Payoff | None
    outcome: str
    denial: str


def _number(text: Any) -> Decimal | None:
    return None if text in (None, "") else Decimal(str(text))


def _own(price: Decimal | None, side: str) -> Decimal | None:
    """A YES-scale price on the side's own scale."""
    return price if price is None or side == Side.YES else complement(price)


@register.filter
def card(proposal: Proposal) -> Card:
    """Read the frozen JSON of a proposal back into numbers."""
    quote, forecast, report = proposal.quote, proposal.forecast, proposal.risk_report
    yes, side = proposal.side == Side.YES, proposal.side
    low, high = _own(_number(forecast.get("low")), side), _own(_number(forecast.get("high")), side)
    bid, ask = _own(_number(quote.get("yes_bid")), side), _own(_number(quote.get("yes_ask")), side)
    bid, ask = (bid, ask) if yes else (ask, bid)
    found = stakes(
        proposal.terms,
        at_risk=_number(report.get("cost")) or Decimal(0),
        fee=_number(report.get("fee", 0)),
        yes_probability=_number(forecast.get("probability")),
    )
    checks = sorted(report.get("checks", []), key=lambda check: ORDER.get(check["verdict"], 0))
    count = {word: sum(check["verdict"] == word for check in checks) for word in ORDER}
    middle = None if bid is None or ask is None else (bid + ask) / 2
    return Card(
        stakes=found,
        bid=bid,
        ask=ask,
        estimate=_own(_number(forecast.get("probability")), side),
        low=low if yes else high,
        high=high if yes else low,
        market_chance=middle if proposal.action == "buy" else _own(middle, Side.NO),
        claims=[claim for claim in forecast.get("claims", []) if isinstance(claim, dict)][:12],
        model=str(forecast.get("model", "")),
        checks=[
            CheckRow(check["label"], check["text"], *LOOK.get(check["verdict"], LOOK["block"]))
            for check in checks
        ],
        passed=count["pass"],
        warned=count["warn"],
        denied=count["block"],
        bars=_bars(checks),
        payoff=_payoff(found, middle if proposal.action == "buy" else _own(middle, Side.NO)),
        outcome=OUTCOMES.get(ProposalState(proposal.state), ""),
        denial=next((f"{c['code']} {c['label']} {c['text']}" for c in checks if c["verdict"] == "block"), ""),
    )


def _check(check: dict[str, Any]) -> CheckRow:
    """A verdict that is not known counts as a no."""
    return CheckRow(check["label"], check["text"], *LOOK.get(check["verdict"], LOOK["block"]))


@register.simple_tag
def close_slippage() -> str:
    """How far below the best bid an exit by hand may sell: `2¢`."""
    return cents_text(CLOSE_SLIPPAGE)


@register.filter
def bars_height(count: int) -> int:
    """The picture's height for so many bars, in pixels."""
    return 18 + 38 * count


def _bars(checks: list[dict[str, Any]]) -> list[Bar]:
    found = {check["name"]: check for check in checks if check.get("limit") and check.get("after")}
    rows = [found[name] for name in MEASURES if name in found and Decimal(found[name]["limit"]) > 0]
    return [_bar(check, 15 + n * 38) for n, check in enumerate(rows)]


def _bar(check: dict[str, Any], y: int) -> Bar:
    before, after, limit = (Decimal(check[key] or 0) for key in ("before", "after", "limit"))
    text = dollars_text if check["unit"] == "dollars" else count_text
    roof = Decimal(88)  # a bar past its wall is cut before its number, which tells the rest
    was = min(before / limit * WALL, roof)
    end = min(after / limit * WALL, roof)
    return Bar(
        label=check["label"],
        before=text(before),
        after=text(after),
        limit=text(limit),
        used=f"{after / limit * 100:.0f}%",
        tone={"warn": "warnf", "block": "critf"}.get(check["verdict"], ""),
        was_width=f"{min(was, end):.2f}%",
        add_x=f"{min(was, end):.2f}%",
        add_width=f"{max(end - was, Decimal(0)):.2f}%",
        y=y + 16,
    )


def _payoff(found: Stakes, market: Decimal | None) -> Payoff | None:
    if found.chance is None or found.if_right is None or found.if_wrong is None:
        return None
    tallest = max(abs(found.if_right), abs(found.if_wrong), Decimal("0.01"))
    right, wrong = abs(found.if_right) / tallest * HEIGHT, abs(found.if_wrong) / tallest * HEIGHT
    wrong_share = (1 - found.chance) * 100
    return Payoff(
        wrong_width=f"{wrong_share:.1f}%",
        right_x=f"{wrong_share:.1f}%",
        right_width=f"{found.chance * 100:.1f}%",
        wrong_height=f"{wrong:.1f}",
        right_height=f"{right:.1f}",
        right_y=f"{50 - right:.1f}",
        wrong_chance=1 - found.chance,
        market_x=None if market is None else f"{(1 - market) * 100:.1f}%",
        market_label_left=market is not None and market * 100 < NARROW,
        # A number too wide for its area stands beside it.
        loss_x=f"{wrong_share + 1:.1f}%" if wrong_share < NARROW else "2%",
        gain_x=f"{wrong_share - 1:.1f}%" if 100 - wrong_share < NARROW else "98%",
    )
