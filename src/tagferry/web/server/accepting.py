"""Accept connections while there are slots, also after the system ran out of descriptors or memory."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from tagferry.bounds import ACCEPTS_AT_ONCE
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED
from tagferry.web.server.connections import Connections, Slot
from tagferry.web.server.refusals import no_slot

log = SparseEvents(__name__)

_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS = 0.5


class Acceptor:
    """One listener's.

    Args:
        listening: the socket.
        connections: gives the slots.
        number: the listener's among those that share them.
        protocol: makes the protocol of a connection.
        tls: for connections with TLS.
        handshake_seconds: how long the handshake of TLS may take.
    """

    def __init__(
        self,
        listening: socket.socket,
        connections: Connections,
        number: int,
        protocol: Callable[[Slot], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
    ) -> None:
        self._listening = listening
        self._connections = connections
        self._number = number
        self._protocol = protocol
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._is_closed = False
        listening.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more connections; those that are open stay."""
        self._is_closed = True
        self._loop.remove_reader(self._listening)
        if self._resuming is not None:
            self._resuming.cancel()

    async def wait_closed(self) -> None:
        """Give up the connections whose handshake is not over yet."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                accepted, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Whatever it is, the listener must not be lost, nor the loop spin.
                self._pause(error)
                return
            accepted.setblocking(False)
            slot = self._connections.take(self._number, peer[0])
            if slot is None:
                self._refuse(accepted)
                continue
            task = self._loop.create_task(self._open(accepted, slot))
            slot.close = task.cancel
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _pause(self, error: OSError) -> None:
        if error.errno in _OUT_OF:
            BOUND_REACHED.labels(bound="descriptors").inc()
        log.warning("could not accept a connection; trying again", reason=error.strerror or str(error))
        self._loop.remove_reader(self._listening)
        self._resuming = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _refuse(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            if self._tls is None:
                accepted.send(no_slot())
                accepted.shutdown(socket.SHUT_WR)

    async def _open(self, accepted: socket.socket, slot: Slot) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(slot),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_seconds if self._tls is not None else None,
            )
        except (OSError, TimeoutError):
            # No TLS, a certificate that the client does not trust, or a client that is gone or silent.
            slot.release()
        except BaseException:
            slot.release()
            raise
