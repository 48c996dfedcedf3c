"""Measurements, each printed as a ratio taken in one run. Not part of the product."""
