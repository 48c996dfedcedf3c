"""Rows for tests: a fixed cast of people, and markets, quotes and proposals in plain sane states."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import factory
from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from approvals import decisions
from approvals.domain.lifecycle import terms_hash
from approvals.models import Proposal
from kalshi_site.identity import new_id
from kalshi_site.models import User
from portfolio.models import CashEntry
from trading.domain.orders import Action, OrderState, Side
from trading.models import ExchangeState, Market, Order, Quote

VENUE = "paper"


class UserFactory(factory.django.DjangoModelFactory[User]):
    class Meta:
        model = User
        django_get_or_create = ("username",)

    username = factory.Sequence(lambda n: f"person{n}")
    is_active = True


def grant(user: User, *permissions: str) -> User:
    """Give single permissions, written `app.codename`."""
    for name in permissions:
        app, codename = name.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return User.objects.get(pk=user.pk)


def member(username: str, role: str) -> User:
    """A person of the cast with one role (identity.ROLES)."""
    from kalshi_site.identity import ensure_role

    user = UserFactory(username=username)
    user.groups.add(Group.objects.filter(name=role).first() or ensure_role(role))
    return User.objects.get(pk=user.pk)


def approver(username: str = "approver1") -> User:
    return member(username, "approver")


def stranger(username: str = "stranger") -> User:
    return UserFactory(username=username)


class MarketFactory(factory.django.DjangoModelFactory[Market]):
    """An open market, on an exchange that trades unless the test has said otherwise."""

    class Meta:
        model = Market
        django_get_or_create = ("ticker",)

    ticker = factory.Sequence(lambda n: f"SIMTEST-26NOV23-T{n}")
    event_ticker = factory.LazyAttribute(lambda market: market.ticker.rsplit("-", 1)[0])
    series_ticker = "SIMTEST"
    category = "Test"
    title = "Will the test pass?"
    rules_primary = "Resolves to Yes if the test passes."
    status = "active"
    open_at = factory.LazyFunction(lambda: timezone.now() - timedelta(hours=1))
    close_at = factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1))
    price_ranges = factory.LazyFunction(lambda: [{"start": "0.00", "end": "1.00", "step": "0.01"}])
    fee_type = "quadratic"
    fee_multiplier = "1"
    updated_at = factory.LazyFunction(timezone.now)

    @classmethod
    def _create(cls, model_class: type[Market], *args: Any, **fields: Any) -> Market:
        exchange_speaks()
        made: Market = super()._create(model_class, *args, **fields)
        return made


class QuoteFactory(factory.django.DjangoModelFactory[Quote]):
    class Meta:
        model = Quote

    market = factory.SubFactory(MarketFactory)
    yes_bid = Decimal("0.4800")
    yes_ask = Decimal("0.5000")
    yes_bid_quantity = Decimal("500.00")
    yes_ask_quantity = Decimal("500.00")
    levels = factory.LazyFunction(lambda: {"bids": [["0.4800", "500.00"]], "asks": [["0.5000", "500.00"]]})
    trusted = True
    as_of = factory.LazyFunction(timezone.now)
    verified_at = factory.LazyFunction(timezone.now)


def exchange_says(*, is_active: bool = True, is_trading: bool = True, **said: Any) -> ExchangeState:
    """What the exchange said of itself just now."""
    told = {"weekly": False, "as_of": timezone.now(), **said}
    row, _ = ExchangeState.objects.update_or_create(
        venue=said.pop("venue", VENUE), defaults={"is_active": is_active, "is_trading": is_trading, **told}
    )
    return row


def exchange_speaks() -> None:
    """Its last word is of this moment; an exchange that said nothing yet trades."""
    if not ExchangeState.objects.update(as_of=timezone.now()):
        exchange_says()


def quoted_market(**fields: Any) -> Market:
    """An open market with a fresh quote of 48-50 cents."""
    market = MarketFactory(**fields)
    QuoteFactory(market=market)
    return market


def funded(amount: str = "10000.00", venue: str = VENUE) -> CashEntry:
    """The account's opening cash."""
    entry, _ = CashEntry.objects.get_or_create(
        venue=venue, kind="opening", reference="opening", defaults={"amount": Decimal(amount)}
    )
    return entry


def approved(**fields: Any) -> Proposal:
    """A proposal that a person has approved, on a funded account: what execution finds."""
    funded()
    proposal = ProposalFactory(**fields)
    return decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=proposal.version,
        actor=approver(),
        method="page",
    )


class ProposalFactory(factory.django.DjangoModelFactory[Proposal]):
    """A pending proposal of the analyst: buy 10 YES at 50 cents."""

    class Meta:
        model = Proposal

    class Params:
        market = factory.LazyFunction(quoted_market)

    public_id = factory.LazyFunction(lambda: new_id("prop"))
    venue = VENUE
    state = "pending"
    origin = "agent"
    ticker = factory.SelfAttribute("market.ticker")
    event_ticker = factory.SelfAttribute("market.event_ticker")
    series_ticker = factory.SelfAttribute("market.series_ticker")
    title = factory.SelfAttribute("market.title")
    close_at = factory.SelfAttribute("market.close_at")
    action = Action.BUY.value
    side = Side.YES.value
    quantity = Decimal("10.00")
    limit_price = Decimal("0.5000")
    proposer = "offline-analyst"
    strategy = "offline-analyst"
    reduce_only = False
    # One that is made approved stands for what a policy let through: nobody's decision lies behind it.
    required_approvals = factory.LazyAttribute(lambda p: 0 if p.state == "approved" else 1)
    risk_level = "LOW"
    deadline_at = factory.LazyFunction(lambda: timezone.now() + timedelta(minutes=5))
    terms_hash = factory.LazyAttribute(
        lambda p: terms_hash(
            Proposal(
                ticker=p.ticker, action=p.action, side=p.side, quantity=p.quantity, limit_price=p.limit_price
            ).terms,
            reduce_only=p.reduce_only,
            venue=p.venue,
        )
    )

    @classmethod
    def _create(cls, model_class: type[Proposal], *args: Any, **fields: Any) -> Proposal:
        exchange_speaks()
        made: Proposal = super()._create(model_class, *args, **fields)
        return made


class OrderFactory(factory.django.DjangoModelFactory[Order]):
    """A resting order of an approved proposal: buy 10 YES at 50 cents."""

    class Meta:
        model = Order

    public_id = factory.LazyFunction(lambda: new_id("ord"))
    proposal = factory.SubFactory(ProposalFactory, state="claimed")
    venue = VENUE
    client_order_id = factory.LazyAttribute(lambda order: f"kp-{order.public_id}")
    venue_order_id = factory.LazyAttribute(lambda order: f"venue-{order.public_id}")
    state = OrderState.RESTING.value
    ticker = factory.SelfAttribute("proposal.ticker")
    event_ticker = factory.SelfAttribute("proposal.event_ticker")
    title = factory.SelfAttribute("proposal.title")
    action = factory.SelfAttribute("proposal.action")
    side = factory.SelfAttribute("proposal.side")
    quantity = factory.SelfAttribute("proposal.quantity")
    limit_price = factory.SelfAttribute("proposal.limit_price")
    time_in_force = "good_till_canceled"
    remaining_quantity = factory.SelfAttribute("proposal.quantity")
    attempts = 1
    signed_at = factory.LazyFunction(timezone.now)
    answer_due_at = factory.LazyFunction(lambda: timezone.now() + timedelta(seconds=5))
