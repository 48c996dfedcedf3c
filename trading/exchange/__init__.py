"""The exchange's client: one for paper, demo and live, which differ by address and key alone. Plain Python."""
