"""A local exchange on loopback: a believable market, the venue's own protocol, and faults on demand."""

from watchhamster.sim.faults import FAULTS
from watchhamster.sim.server import Simulator
from watchhamster.sim.world import World

__all__ = ["FAULTS", "Simulator", "World"]
