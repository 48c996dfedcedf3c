"""The only door to the exchange's order endpoints."""
