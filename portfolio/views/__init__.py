"""Pages of the books and of the trading state. Every form works without a script."""
