"""The shared language of every app: prices, orders, fees, fills, books, sizes. Pure: no framework, no I/O, no clock."""
