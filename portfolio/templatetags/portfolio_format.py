"""Amounts of a limit in its own unit. What is unknown is a dash, never zero."""

from __future__ import annotations

from decimal import Decimal

from django import template

from portfolio.domain.limits import Limit

register = template.Library()


@register.filter
def in_unit(amount: Decimal | None, limit: Limit) -> str:
    """`$150.00`, `500 contracts`, `20 s`."""
    return "–" if amount is None else limit.in_words(amount)


@register.filter
def plain(amount: Decimal | str) -> str:
    """A number as one would type it: `0.1`, not `0.100000`."""
    return f"{amount.normalize():f}" if isinstance(amount, Decimal) else amount
