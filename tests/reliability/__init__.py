"""Suites that show what the desk promises of its orders, at sizes of choice (`sizes`); not part of `make test`."""
