"""A change names the version it saw; the row that comes back says what was written."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kalshi_site.versioning import StaleVersion, compare_and_set
from tests import factories
from trading.models import Order

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("reread", [True, False])
def test_the_returned_row_is_the_one_in_the_database(reread: bool) -> None:
    order = Order.objects.get(pk=factories.OrderFactory().pk)
    fresh = compare_and_set(order, reread=reread, state="filled", filled_quantity=10, evidence="all of it")
    stored = Order.objects.get(pk=order.pk)
    names = [field.attname for field in Order._meta.concrete_fields]
    assert [str(getattr(fresh, name)) for name in names] == [str(getattr(stored, name)) for name in names]
    assert (fresh.version, str(fresh.filled_quantity)) == (2, "10.00")
    assert (order.version, order.filled_quantity) == (1, Decimal(0)), "the row that was given stays as it was"


@pytest.mark.parametrize("reread", [True, False])
def test_a_row_that_was_changed_meanwhile_is_not_written(reread: bool) -> None:
    order = factories.OrderFactory()
    compare_and_set(order, evidence="first")
    with pytest.raises(StaleVersion) as stale:
        compare_and_set(order, reread=reread, evidence="second")
    assert (stale.value.seen, stale.value.current) == (1, Order.objects.get(evidence="first"))


def test_a_row_older_than_the_version_that_is_named_is_read_again() -> None:
    order = factories.OrderFactory()
    compare_and_set(order, evidence="first", code="E610")
    fresh = compare_and_set(order, version=2, reread=False, evidence="second")
    assert (fresh.version, fresh.evidence, fresh.code) == (3, "second", "E610")
