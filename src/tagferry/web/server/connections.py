"""Limits on client connections: in total, per listener and per address.

When a limit is reached, the connection that has been idle longest is closed to make room, so that only connections with
requests in progress can exclude others. A connection is idle while it waits for a request or the rest of its head.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Literal

from tagferry.addresses import client_source
from tagferry.bounds import DESCRIPTOR_RESERVE, SHED_PER_ADDRESS, SHED_SECONDS
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED

log = SparseEvents(__name__)

_LEAST = 16
_REMEMBERED = 10_000
"""The maximum number of addresses whose refused requests are counted."""


class Slot:
    """The slot of one connection.

    Attributes:
        listener: the number of the listener that accepted the connection.
        address: the address whose limit the connection counts towards.
        address_idle: the slots of this address whose connections are idle.
        close: closes the connection at once; set by the holder of the slot.
        is_held: whether the slot has not been released.
    """

    __slots__ = ("_connections", "address", "address_idle", "close", "is_held", "listener")

    def __init__(
        self, connections: "Connections", listener: int, address: str, address_idle: dict["Slot", None]
    ) -> None:
        self._connections = connections
        self.address_idle = address_idle
        self.listener = listener
        self.address = address
        self.close: Callable[[], object] = _nothing
        self.is_held = True

    def working(self) -> None:
        """Mark the connection as busy, so that it is not closed to make room."""
        self._connections.set_idle(self, is_idle=False)

    def idle(self) -> None:
        """Mark the connection as idle: it may be closed to make room."""
        self._connections.set_idle(self, is_idle=True)

    def shed(self) -> None:
        """Record that a request was refused because of overload."""
        self._connections.shed(self)

    def release(self) -> None:
        """Release the slot after the connection has ended. Later calls do nothing."""
        self._connections.release(self)


class _Address:
    __slots__ = ("held", "idle")

    def __init__(self) -> None:
        self.held = 0
        self.idle: dict[Slot, None] = {}


class Connections:
    """The slots of all listeners in this process.

    Args:
        limit: the total number of slots.
        per_address: the maximum number of slots of one address; an IPv6 /64 network counts as one address.
        listeners: the number of listeners that share the slots. Half of an equal share is guaranteed to each.
        is_exempt: return whether an address, such as a trusted proxy's, is exempt from `per_address`.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        limit: int,
        per_address: int,
        *,
        listeners: int = 1,
        is_exempt: Callable[[str], bool] = lambda _address: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_exempt = is_exempt
        self._clock = clock
        self._limit = limit
        self._per_address = per_address
        self._guaranteed = limit // (2 * max(listeners, 1))
        self._held = [0] * max(listeners, 1)
        self._addresses: dict[str, _Address] = {}
        self._idle: dict[Slot, None] = {}
        self._shed: OrderedDict[str, deque[float]] = OrderedDict()

    def set_limits(self, limit: int, per_address: int, is_exempt: Callable[[str], bool]) -> None:
        """Change the limits, see the class. Connections above a lower limit stay open until they end."""
        self._limit, self._per_address, self._is_exempt = limit, per_address, is_exempt
        self._guaranteed = limit // (2 * len(self._held))

    @property
    def held(self) -> int:
        """The number of slots in use."""
        return sum(self._held)

    def take(self, listener: int, host: str) -> Slot | None:
        """Return a slot for a new connection, which is idle at first, or None if the connection must be refused."""
        key = client_source(host)
        if self._sheds(key) and not self._is_exempt(host):
            BOUND_REACHED.labels(bound="shed_per_address").inc()
            log.warning("refused a connection", limit="shed_per_address", address=host, held=self.held)
            return None
        address = self._addresses.get(key)
        if address is not None and address.held >= self._per_address and not self._is_exempt(host):
            if not self._close_oldest(address.idle, "connections_per_address", host):
                return None
        elif not self._has_room(listener) and not self._close_oldest(self._idle, "connections", host):
            return None
        address = self._addresses.setdefault(key, _Address())
        slot = Slot(self, listener, key, address.idle)
        self._held[listener] += 1
        address.held += 1
        self.set_idle(slot, is_idle=True)
        return slot

    def set_idle(self, slot: Slot, *, is_idle: bool) -> None:
        """Set whether a slot's connection may be closed to make room for a new one."""
        if not slot.is_held:
            return
        if is_idle:
            self._idle[slot] = slot.address_idle[slot] = None
        else:
            self._idle.pop(slot, None)
            slot.address_idle.pop(slot, None)

    def shed(self, slot: Slot) -> None:
        """Record that a request was refused because of overload.

        Clients that reconnect at once cost more than their refused requests, so after many of these, connections from
        their address are refused for a while.
        """
        times = self._shed.setdefault(slot.address, deque(maxlen=SHED_PER_ADDRESS))
        times.append(self._clock())
        self._shed.move_to_end(slot.address)
        if len(self._shed) > _REMEMBERED:
            self._shed.popitem(last=False)

    def _sheds(self, address: str) -> bool:
        times = self._shed.get(address)
        if times is None or len(times) < SHED_PER_ADDRESS:
            return False
        return self._clock() - times[0] < SHED_SECONDS

    def release(self, slot: Slot) -> None:
        """Release a slot."""
        if not slot.is_held:
            return
        self.set_idle(slot, is_idle=False)
        slot.is_held = False
        self._held[slot.listener] -= 1
        address = self._addresses[slot.address]
        address.held -= 1
        if not address.held:
            del self._addresses[slot.address]

    def _has_room(self, listener: int) -> bool:
        if self._held[listener] < self._guaranteed:
            return True
        return sum(max(held, self._guaranteed) for held in self._held) < self._limit

    def _close_oldest(
        self, idle: dict[Slot, None], bound: Literal["connections", "connections_per_address"], host: str
    ) -> bool:
        """Close the connection that has been idle longest. Return False if none is idle."""
        BOUND_REACHED.labels(bound=bound).inc()
        slot = next(iter(idle), None)
        if slot is None:
            log.warning("refused a connection", limit=bound, address=host, held=self.held)
            return False
        log.warning("closed an idle connection to make room for a new one", limit=bound, address=host, held=self.held)
        slot.release()
        slot.close()
        return True


def affordable_connections(wanted: int, available: int) -> int:
    """Return the number of connections that the file descriptors allow; each may also use a file."""
    return max(_LEAST, min(wanted, (available - DESCRIPTOR_RESERVE) // 2))


def _nothing() -> None:
    """Do nothing: the connection does not exist yet."""
