"""The simulated world: nature knows the true odds, makers guess them late and with noise, takers trade on knowledge,
on whim or in bursts. It knows nothing of the desk.

`wiener` and `gauges` are nature, `plans` and `listings` the calendar, `makers` and `takers` the people, `world`
the loop. Definitions and outcomes follow from seed and clock alone, so a restart finds the same markets.
"""

from trading.paper.simulate.world import SimulatedWorld

__all__ = ["SimulatedWorld"]
