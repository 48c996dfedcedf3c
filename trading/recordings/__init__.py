"""Recordings of the exchange's websocket, in and out. Plain Python."""
