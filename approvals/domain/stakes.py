"""What an order may cost, win and lose, if it is wholly filled at its limit. Money is Decimal dollars with fees."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trading.domain.orders import Action, Side, Terms
from trading.domain.prices import ONE


@dataclass(frozen=True, slots=True)
class Stakes:
    """The numbers of one decision. `chance` is that the order turns out right; what needs it is None without it.

    `paid` is price x quantity as the order says it. An order that only reduces risks nothing new: `if_right` and
    `if_wrong` are None, and `expected` is what selling brings over keeping; None where the fee is not known.
    """

    paid: Decimal
    fee: Decimal | None
    if_right: Decimal | None
    if_wrong: Decimal | None
    chance: Decimal | None
    expected: Decimal | None
    edge: Decimal | None


def chance_of(terms: Terms, yes_probability: Decimal | None) -> Decimal | None:
    """The chance that the order is right: buying YES or selling NO wants YES, the others want NO."""
    if yes_probability is None:
        return None
    wants_yes = (terms.action is Action.BUY) == (terms.side is Side.YES)
    return yes_probability if wants_yes else ONE - yes_probability


def stakes(terms: Terms, *, at_risk: Decimal, fee: Decimal | None, yes_probability: Decimal | None) -> Stakes:
    """`at_risk` is the cost of the part that opens (RiskReport.cost), `fee` the worst fee of the whole order.

    A fee that is not known is that of an order which only reduces: no other is judged without one.
    """
    chance = chance_of(terms, yes_probability)
    entry = terms.limit_price if terms.action is Action.BUY else ONE - terms.limit_price
    opening = at_risk / entry
    if opening == 0 or fee is None:
        better = None if chance is None or fee is None else terms.quantity * (chance - entry) - fee
        return Stakes(terms.notional, fee, None, None, chance, better, better and better / terms.quantity)
    if_right = opening - at_risk - fee
    if_wrong = -at_risk - fee
    if chance is None:
        return Stakes(terms.notional, fee, if_right, if_wrong, None, None, None)
    expected = chance * if_right + (ONE - chance) * if_wrong
    return Stakes(terms.notional, fee, if_right, if_wrong, chance, expected, expected / opening)
