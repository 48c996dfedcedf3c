"""Trading: drives. The catalogue, the exchange, the loops."""

from django.apps import AppConfig


class TradingConfig(AppConfig):
    name = "trading"

    def ready(self) -> None:
        """Tell the room below where market facts come from and what forbids resuming, and listen for approvals."""
        from portfolio import risk
        from trading import receivers
        from trading.execution import nets, work_items
        from trading.market_data import drift
        from trading.models.quote import market_facts

        risk.read_facts_from(market_facts)
        risk.object_to_resuming(drift.objection, work_items.objection, nets.objection)
        receivers.connect()
