"""The risk rules: one small function each, all verdicts gathered, each with a stable name, a code and its numbers.

A rule returns a Check. A rule that raises blocks: an exception in a check means no (FIELD.md 3, rule 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from portfolio.domain.exposure import WorstCase, worst_case
from trading.domain.hours import Standing, words
from trading.domain.markets import MarketFacts
from trading.domain.orders import Action, Terms
from trading.domain.prices import cents_text, count_text, dollars_text

WARN_SHARE = Decimal("0.75")  # a limit used beyond three quarters warns


class TradingMode(StrEnum):
    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  # a verdict, not a password
    WARN = "warn"
    BLOCK = "block"


class RiskLevel(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    BLOCKED = "BLOCKED"


@dataclass(frozen=True, slots=True)
class Limit:
    """One number that an operator may change. `unit` says what it counts."""

    name: str
    label: str
    unit: str
    value: Decimal
    help: str
    less_is_looser: bool = False

    def is_looser(self, before: Decimal, after: Decimal) -> bool:
        """Whether the change allows what was refused before."""
        return after < before if self.less_is_looser else after > before

    def in_words(self, amount: Decimal) -> str:
        """The amount in the limit's own unit."""
        if self.unit == "dollars":
            return dollars_text(amount)
        return f"{count_text(amount)} {'s' if self.unit == 'seconds' else self.unit}"


PAPER_LIMITS: Mapping[str, Limit] = {
    limit.name: limit
    for limit in (
        Limit("order_notional", "Order notional", "dollars", Decimal(150), "Price × quantity of one order."),
        Limit(
            "position", "Position", "contracts", Decimal(500), "Contracts held in one market, either side."
        ),
        Limit(
            "event_exposure", "This event, most to lose", "dollars", Decimal(400), "All markets of one event."
        ),
        Limit(
            "total_exposure", "All exposure", "dollars", Decimal(6000), "Most that all positions can lose."
        ),
        Limit(
            "cash_committed", "Cash committed", "dollars", Decimal(8000), "Cash that orders may hold at once."
        ),
        Limit(
            "price_collar",
            "Price collar",
            "dollars",
            Decimal("0.10"),
            "How far past the touch a limit may be.",
        ),
        Limit("data_age", "Price age", "seconds", Decimal(10), "Older prices are not traded on."),
        Limit(
            "time_to_close",
            "Time to close",
            "seconds",
            Decimal(20),
            "Nearer to the close nothing is opened.",
            True,
        ),
        Limit(
            "auto_daily",
            "Approved without a person today",
            "dollars",
            Decimal(300),
            "At the autonomy level auto: price × quantity of all such orders of one day (UTC).",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class PortfolioFacts:
    """What the rules may know of the portfolio. Reserved amounts count as if they were filled."""

    cash: Decimal
    reserved_cash: Decimal
    total_exposure: Decimal
    event_exposure: Decimal
    held: Decimal
    pending: Decimal  # signed contracts of undone orders in this market
    mode: TradingMode
    leaving: Decimal = Decimal(0)  # contracts of what is held that undone orders may already take away

    @property
    def free(self) -> Decimal:
        """Signed contracts that are held and that no undone order is closing."""
        left = max(abs(self.held) - self.leaving, Decimal(0))
        return left if self.held > 0 else -left


@dataclass(frozen=True, slots=True)
class Case:
    """One order before its judges. `manual_exit` marks a person's own way out, which no trading state blocks."""

    terms: Terms
    market: MarketFacts
    portfolio: PortfolioFacts
    limits: Mapping[str, Decimal]
    now: datetime
    reduce_only: bool = False
    manual_exit: bool = False
    cost: WorstCase = field(init=False)

    def __post_init__(self) -> None:
        # A person's way out is judged by what is held: the exchange itself lets it only reduce.
        held = self.portfolio.held if self.manual_exit else self.portfolio.free
        object.__setattr__(self, "cost", worst_case(self.terms, held, self.market.fees))


@dataclass(frozen=True, slots=True)
class Check:
    """One rule's answer. `before`, `after` and `limit` are numbers in `unit` where the rule is a measure."""

    name: str
    label: str
    verdict: Verdict
    code: str
    text: str
    unit: str = ""
    before: Decimal | None = None
    after: Decimal | None = None
    limit: Decimal | None = None

    def as_json(self) -> dict[str, Any]:
        numbers = {key: getattr(self, key) for key in ("before", "after", "limit")}
        return {
            "name": self.name,
            "label": self.label,
            "verdict": self.verdict.value,
            "code": self.code,
            "text": self.text,
            "unit": self.unit,
            **{key: None if number is None else str(number) for key, number in numbers.items()},
        }


Rule = Callable[[Case], Check]


def _measure(case: Case, name: str, before: Decimal, added: Decimal, text: Callable[[Decimal], str]) -> Check:
    limit, meta = case.limits[name], PAPER_LIMITS[name]
    after = before + added
    verdict = Verdict.BLOCK if after > limit else Verdict.WARN if after > limit * WARN_SHARE else Verdict.PASS
    if case.reduce_only or added <= 0:
        verdict = Verdict.PASS  # the way out is never blocked
    return Check(
        name, meta.label, verdict, "E301", f"{text(after)} of {text(limit)}", meta.unit, before, after, limit
    )


def order_notional(case: Case) -> Check:
    return _measure(case, "order_notional", Decimal(0), case.terms.notional, dollars_text)


def position(case: Case) -> Check:
    """Contracts in this market if every undone order here is filled too."""
    before = case.portfolio.held + case.portfolio.pending
    after = before + case.terms.signed_quantity
    return _measure(case, "position", abs(before), abs(after) - abs(before), count_text)


def event_exposure(case: Case) -> Check:
    return _measure(case, "event_exposure", case.portfolio.event_exposure, case.cost.cost, dollars_text)


def total_exposure(case: Case) -> Check:
    return _measure(case, "total_exposure", case.portfolio.total_exposure, case.cost.cost, dollars_text)


def cash_committed(case: Case) -> Check:
    return _measure(case, "cash_committed", case.portfolio.reserved_cash, case.cost.cash, dollars_text)


def cash(case: Case) -> Check:
    """The exchange wants the whole worst case up front (API.md 12): never order what cannot be paid."""
    free = case.portfolio.cash - case.portfolio.reserved_cash
    enough = case.reduce_only or case.cost.cash <= free
    verdict = Verdict.PASS if enough else Verdict.BLOCK
    text = f"{dollars_text(case.cost.cash)} of {dollars_text(free)} free"
    text += ", without the fee, which is not known" if case.cost.fee is None else ""
    return Check("cash", "Cash", verdict, "E301", text, "dollars", Decimal(0), case.cost.cash, free)


def price_collar(case: Case) -> Check:
    """How much worse than the present touch the limit is. No touch means no price to compare with: blocked."""
    limit = case.limits["price_collar"]
    touch = case.market.book.touch(case.terms.action, case.terms.side)
    if touch is None:
        verdict = Verdict.PASS if case.reduce_only else Verdict.BLOCK
        return Check("price_collar", "Price collar", verdict, "E310", "no price to compare with")
    worse = (
        case.terms.limit_price - touch if case.terms.action is Action.BUY else touch - case.terms.limit_price
    )
    past = max(worse, Decimal(0))
    verdict = Verdict.BLOCK if past > limit and not case.reduce_only else Verdict.PASS
    text = f"{cents_text(past, fine=True)} of {cents_text(limit, fine=True)}"
    return Check("price_collar", "Price collar", verdict, "E310", text, "dollars", Decimal(0), past, limit)


def data_age(case: Case) -> Check:
    limit = case.limits["data_age"]
    age = case.market.book.age(case.now)
    if age is None:
        verdict = Verdict.PASS if case.reduce_only else Verdict.BLOCK
        return Check("data_age", "Price age", verdict, "E312", "never quoted")
    # A price from the future beyond the limit means that a clock is wrong: its age is not known then.
    seconds = abs(Decimal(str(round(age.total_seconds(), 3))))
    verdict = Verdict.BLOCK if seconds > limit and not case.reduce_only else Verdict.PASS
    text = f"{seconds:.1f} s of {limit:.0f} s"
    return Check("data_age", "Price age", verdict, "E312", text, "seconds", Decimal(0), seconds, limit)


def market_open(case: Case) -> Check:
    """Open now and for long enough. A closed market takes no orders at all (API.md 9), not even exits."""
    left = case.market.close_at - case.now
    margin = timedelta(0) if case.reduce_only else timedelta(seconds=float(case.limits["time_to_close"]))
    is_open = case.market.is_open(case.now) and left > margin
    text = (
        f"closes in {_span(left)}" if is_open else f"{case.market.status.value}, {_span(left)} to the close"
    )
    return Check("market_open", "Market open", Verdict.PASS if is_open else Verdict.BLOCK, "E311", text)


def exchange_open(case: Case) -> Check:
    """New risk only while the exchange trades, as a whole and in the market's shard, outside its maintenance.

    An exit passes: whether the exchange takes it is the exchange's to say, and its word may be old.
    """
    facts, index = case.market.exchange, case.market.exchange_index
    allowed = case.reduce_only or facts.standing(case.now, index) is Standing.TRADING
    text = words(facts, case.now, index)
    return Check("exchange_open", "Exchange", Verdict.PASS if allowed else Verdict.BLOCK, "E607", text)


def price_grid(case: Case) -> Check:
    holds = case.market.grid.holds(case.terms.yes_price)
    text = cents_text(case.terms.limit_price) + (" is a valid price" if holds else " is off the price grid")
    return Check("price_grid", "Price grid", Verdict.PASS if holds else Verdict.BLOCK, "E014", text)


def trading_state(case: Case) -> Check:
    """REDUCING lets exits pass; HALTED lets only a person's own exit pass (STYLE.md, Names)."""
    mode = case.portfolio.mode
    allowed = (
        mode is TradingMode.ACTIVE
        or (mode is TradingMode.REDUCING and case.reduce_only)
        or (case.reduce_only and case.manual_exit)
    )
    code = "E306" if mode is TradingMode.HALTED else "E305"
    text = {"ACTIVE": "trading", "REDUCING": "paused: only exits pass", "HALTED": "stopped"}[mode.value]
    return Check("trading_state", "Trading state", Verdict.PASS if allowed else Verdict.BLOCK, code, text)


def reduces(case: Case) -> Check:
    """A reduce-only order may not be larger than what is held on the other side."""
    ok = not case.reduce_only or case.cost.opening == 0
    text = (
        "not an exit"
        if not case.reduce_only
        else f"{count_text(case.terms.quantity)} of {count_text(case.cost.reducing)} that can be sold"
        if not ok
        else f"{count_text(case.terms.quantity)} of {count_text(abs(case.portfolio.held))} held"
    )
    return Check("reduces", "Only reduces", Verdict.PASS if ok else Verdict.BLOCK, "E301", text)


RULES: tuple[Rule, ...] = (
    trading_state,
    exchange_open,
    market_open,
    data_age,
    price_grid,
    price_collar,
    order_notional,
    position,
    event_exposure,
    total_exposure,
    cash_committed,
    cash,
    reduces,
)


@dataclass(frozen=True, slots=True)
class RiskReport:
    """Every rule's answer about one order, worst first where shown. Frozen into the proposal."""

    checks: tuple[Check, ...]
    cost: WorstCase
    at: datetime

    @property
    def blocks(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.verdict is Verdict.BLOCK)

    @property
    def warnings(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.verdict is Verdict.WARN)

    @property
    def allowed(self) -> bool:
        return not self.blocks

    @property
    def level(self) -> RiskLevel:
        """BLOCKED, HIGH when a rule warns, MEDIUM when half of a limit is used, else LOW."""
        if self.blocks:
            return RiskLevel.BLOCKED
        if self.warnings:
            return RiskLevel.HIGH
        used = [
            c.after / c.limit
            for c in self.checks
            if c.name in PAPER_LIMITS and c.unit != "seconds" and c.limit and c.after is not None
        ]
        return RiskLevel.MEDIUM if any(share > Decimal("0.5") for share in used) else RiskLevel.LOW

    def as_json(self) -> dict[str, Any]:
        return {
            "level": self.level.value,
            "allowed": self.allowed,
            "at": self.at.isoformat(),
            "cost": str(self.cost.cost),
            "fee": None if self.cost.fee is None else str(self.cost.fee),
            "checks": [check.as_json() for check in self.checks],
        }


def judge(case: Case, rules: tuple[Rule, ...] = RULES) -> RiskReport:
    """Ask every rule. A rule that raises is recorded as a block with code E302, never skipped."""
    return RiskReport(tuple(_ask(rule, case) for rule in rules), case.cost, case.now)


def _ask(rule: Rule, case: Case) -> Check:
    try:
        return rule(case)
    except Exception as error:  # fail closed, whatever went wrong: no verdict is a no
        return Check(
            rule.__name__,
            rule.__name__.replace("_", " ").capitalize(),
            Verdict.BLOCK,
            "E302",
            f"could not be checked: {error!r}",
        )


def _span(left: timedelta) -> str:
    seconds = int(abs(left).total_seconds())
    text = (
        f"{seconds} s"
        if seconds < 120
        else f"{seconds // 60} min"
        if seconds < 7200
        else f"{seconds // 3600} h {seconds // 60 % 60} min"
    )
    return f"−{text}" if left < timedelta(0) else text
