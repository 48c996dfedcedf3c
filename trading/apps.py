"""Trading: drives. The catalogue, the exchange, the loops."""

from django.apps import AppConfig


class TradingConfig(AppConfig):
    name = "trading"

    def ready(self) -> None:
        """Tell the room below where market facts and names come from and what forbids resuming; hear of approvals."""
        from portfolio import risk
        from trading import receivers
        from trading.execution import nets, work_items
        from trading.market_data import drift
        from trading.models.naming import goes_by
        from trading.models.quote import market_facts

        risk.read_facts_from(market_facts)
        risk.know_names_from(goes_by)
        risk.object_to_resuming(drift.objection, work_items.objection, nets.objection)
        receivers.connect()
