"""What most tests of execution begin with: an exchange that does as it is told, and execution's lease in hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # this module is imported before Django is ready
    from kalshi_site import locks
    from tests.fakes import FakeExchange


@pytest.fixture
def exchange() -> FakeExchange:
    from tests.fakes import FakeExchange

    return FakeExchange()


@pytest.fixture
def held() -> Iterator[locks.Held]:
    from kalshi_site import locks

    with locks.lease("execution", ttl=timedelta(minutes=1)) as lease:
        yield lease
