"""The desk's processes ask within one budget: the feed reads the tariff, the parts of all others use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from kalshi_site import wiring
from tests.exchanges import PaperExchange, paper_exchange
from trading.exchange.shared_budget import SharedBudget
from trading.exchange.tariff import Rate, Tariff

pytestmark = [pytest.mark.slow, pytest.mark.django_db]


@pytest.fixture
def desk(
    tmp_path_factory: pytest.TempPathFactory, settings: Any, clean_redis: str
) -> Iterator[PaperExchange]:
    """A paper exchange of the tier Expert, and the settings of a process that reads there."""
    with paper_exchange(tmp_path_factory.mktemp("paper"), "--simulate", "--tier", "expert") as paper:
        settings.KALSHI_REST_URL = paper.rest_url
        settings.KALSHI_READ_KEY_ID, settings.KALSHI_READ_KEY_FILE = paper.key("desk-read")
        for shared in (wiring.budget, wiring.link):
            shared.cache_clear()
        yield paper
        wiring.budget().close()
        for shared in (wiring.budget, wiring.link):
            shared.cache_clear()


def test_what_the_feed_reads_of_the_account_holds_for_every_process(desk: PaperExchange) -> None:
    assert wiring.budget().tariff == Tariff()
    for chore in wiring.feed_chores():
        chore.work()
    netloc = desk.rest_url.removeprefix("http://").split("/")[0]
    other = SharedBudget(wiring.settings.REDIS_URL, f"paper:{netloc}")
    assert (other.tariff.tier, other.tariff.write) == ("expert", Rate(600, 1_800))
    other.close()


def test_every_question_of_a_process_is_taken_from_the_shared_bucket(desk: PaperExchange) -> None:
    asks = wiring.reconciler()
    asks.account.orders()
    asks.market_data.exchange_state()
    with redis.Redis.from_url(wiring.settings.REDIS_URL) as client:
        buckets = {key.decode().rsplit(":", 1)[1] for key in client.keys("exchange-budget:paper:*")}
    assert {"read", "public"} <= buckets
    assert wiring.link().clock.now_ms() == pytest.approx(wiring.link().clock._wall_ms(), abs=1_500)
    asks.account.close()
    asks.market_data.close()
