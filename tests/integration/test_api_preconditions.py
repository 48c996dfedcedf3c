"""Which writes name the version that was seen: all that decide or add risk must, the ways out never need to.

One row per door that changes something; a new door without a row fails.
"""

from __future__ import annotations

import pytest

from kalshi_site.identity import SCOPES
from tests.callers import Caller, code_of
from tests.integration.test_api_rights import DOORS, Door

pytestmark = pytest.mark.django_db

DEMANDS = {
    "proposals/none/approve",
    "proposals/none/decline",
    "trading/resume",
    "trading/autonomy",
    "exchange/drifts/none/acknowledge",
    "reconciliation/none/acknowledge",
    "reconciliation/none/resolve",
}
HONOURS = {"trading/pause"}  # 412 when the version is named and stale: test_api_trading
# Cancel, reduce, stop: never kept waiting for a version. A breaker's reset only asks the dependency again, and after
# the exchange's net is reset trading is still paused. A proposal's repeat only asks: the version is
# named by whoever approves it.
NEVER = {
    "orders/none/decrease",
    "trading/order-groups/reset",
    "trading/halt",
    "trading/liquidate",
    "orders/none/cancel",
    "orders/cancel-all",
    "positions/none/close",
    "breakers/none/reset",
    "proposals/none/repeat",
}
WRITES = [door for door in DOORS if door.method != "GET"]


def test_every_writing_door_has_its_law() -> None:
    assert {door.path for door in WRITES} == DEMANDS | HONOURS | NEVER
    assert not DEMANDS & (HONOURS | NEVER)


@pytest.mark.parametrize("door", WRITES, ids=str)
def test_a_write_without_a_version_is_refused_where_the_law_demands_one(door: Door) -> None:
    caller = Caller.of("approver", *SCOPES)
    call = caller.put if door.method == "PUT" else caller.post
    response = call(f"/{door.path}", {"reason": "a reason"})
    refused = response.status_code == 428
    assert refused == (door.path in DEMANDS), response.content
    assert not refused or code_of(response) == "E203"
