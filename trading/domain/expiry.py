"""The dead man's switch: a resting order's expiry lies only a little ahead, and is moved on while we live.

When nobody moves it on any more, the exchange ends the order by itself. An expiry never passes the end of what was
approved. The wire counts whole seconds, so every expiry is rounded down.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

RENEWED_AT: Final = 0.5  # of the way: then a renewal whose answer was lost can be asked about before the end
AGAIN_AT: Final = 1 / 12  # of the way: a renewal that was not done is not tried again sooner


def expiry_from(now: datetime, *, ahead: timedelta, good_until: datetime) -> datetime:
    """The latest expiry that an order may have now."""
    return min(now + ahead, good_until).replace(microsecond=0)


def renewal_due(
    expires_at: datetime,
    *,
    good_until: datetime,
    now: datetime,
    ahead: timedelta,
    tried_at: datetime | None = None,
) -> datetime | None:
    """The expiry to ask for now; None when it is too early, too late, too soon after a try, or would gain nothing."""
    if not now < expires_at <= now + ahead * RENEWED_AT:
        return None
    if tried_at is not None and not may_try_again(tried_at, now=now, ahead=ahead):
        return None
    wanted = expiry_from(now, ahead=ahead, good_until=good_until)
    return wanted if wanted > expires_at else None


def may_try_again(tried_at: datetime, *, now: datetime, ahead: timedelta) -> bool:
    """Whether a try is old enough for another one, or for believing a report that still shows the old expiry."""
    return now >= tried_at + ahead * AGAIN_AT
