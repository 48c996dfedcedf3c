"""One of several processes that ask a paper exchange as fast as their budget lets them, for tests of the budget.

    python -m tests.budget_worker MODE KIND SECONDS REST_URL KEY_ID KEY_FILE [REDIS_URL]

MODE: `shared` (over Redis) or `alone` (each process believes that it has the account to itself). KIND: `read`, `write`.
Says "ready", waits for a line, and at its end prints how many answers came with which status, and when it began and
ended.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

from trading.exchange import shared_budget
from trading.exchange.auth import open_signer
from trading.exchange.budget import Budget, LocalBudget
from trading.exchange.link import Link
from trading.exchange.shared_budget import SharedBudget
from trading.exchange.transport import Timeouts, Transport, WriteLine

CREATES = "/portfolio/events/orders"


def main(mode: str, kind: str, seconds: str, url: str, key_id: str, key_file: str, redis_url: str) -> None:
    shared_budget._REDIS_WITHIN = 10.0  # type: ignore[misc]  # a Redis that is only slow is not away
    budget: Budget = SharedBudget(redis_url, "test") if mode == "shared" else LocalBudget()
    signer, link = open_signer(key_id, Path(key_file)), Link(budget=budget)
    patient = Timeouts(connect=20.0, read=20.0, total=30.0, budget=60.0)
    reads = Transport(url, signer, link=link, timeouts=patient)
    writes = WriteLine(url, signer, link=link, timeouts=patient)
    statuses: Counter[int] = Counter()
    print("ready", flush=True)
    sys.stdin.readline()  # all begin together
    began = time.time()
    while time.time() < began + float(seconds):
        if kind == "read":
            statuses[reads.get("/portfolio/orders").status] += 1
        else:  # a create without terms: billed, refused, and without effect
            statuses[
                writes.send("POST", CREATES, body=b'{"exchange_index": 0}', exchange_index=0).status
            ] += 1
    print(json.dumps({"statuses": statuses, "began": began, "ended": time.time()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
