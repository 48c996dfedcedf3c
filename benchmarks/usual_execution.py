"""The execution process of the baseline: ours, but for the way to the exchange.

The usual form of an order client, as most examples write it: for each order the private key is read from its file and
parsed, a connection is opened, and closed after the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import django

from trading.exchange.auth import Signer, open_signer
from trading.exchange.link import Link
from trading.exchange.orders import Orders, open_orders
from trading.exchange.outcomes import SubmitOutcome


class UsualOrders(Orders):
    """The order endpoints, opened anew for each create. Cancels go as ours do: they are not measured."""

    def __init__(self, rest_url: str, key_id: str, key_file: Path, link: Link | None = None) -> None:
        warm = open_orders(rest_url, open_signer(key_id, key_file), link=link)
        super().__init__(warm._creates, warm._cancels)
        self._open: Callable[[], Orders] = lambda: open_orders(
            rest_url, open_signer(key_id, key_file), link=link
        )

    def send_create(
        self,
        body: bytes,
        signed_ts_ms: int,
        *,
        send_before: float | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> SubmitOutcome:
        """Read the key, open a connection, send once, close. Nothing is done meanwhile."""
        opened = self._open()
        try:
            return opened.send_create(body, signed_ts_ms, send_before=send_before)
        finally:
            opened.close()


def main() -> None:
    """`manage.py execution` with the usual order endpoints."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from kalshi_site import wiring

    def usual(rest_url: str, _: Signer, *, link: Link | None = None) -> UsualOrders:
        key_file = settings.KALSHI_TRADE_KEY_FILE
        assert key_file is not None
        return UsualOrders(rest_url, settings.KALSHI_TRADE_KEY_ID, key_file, link)

    with mock.patch.object(wiring, "open_order_gateway", usual):
        call_command("execution")


if __name__ == "__main__":
    main()
