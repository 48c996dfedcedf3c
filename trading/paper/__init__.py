"""The paper exchange: a server that speaks Kalshi's wire protocol (REST and WebSocket), in a process of its own.

Plain Python without a framework of ours. `world` is what drives prices, `exchange` the engine, `server` the
doors.
"""
