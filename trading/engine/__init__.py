"""The two loops, one function each: look for trades, and compare with the exchange."""
