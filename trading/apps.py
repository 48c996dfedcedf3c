"""Trading: drives. The catalogue, the exchange, the loops."""

from django.apps import AppConfig


class TradingConfig(AppConfig):
    name = "trading"

    def ready(self) -> None:
        """Tell the room below where market facts come from, and listen for approvals."""
        from portfolio import risk
        from trading import receivers
        from trading.models.quote import market_facts

        risk.read_facts_from(market_facts)
        receivers.connect()
