"""Markets, orders, fills, exits and the trading state over REST."""
