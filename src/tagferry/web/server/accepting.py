"""Accept connections while there are slots. Recover when the system runs out of descriptors or memory."""

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
    """Accepts the connections of one listener. A reload changes `tls` and `handshake_seconds`.

    Args:
        listening: the listening socket.
        connections: allocates the slots.
        number: the listener's number among those that share the slots.
        protocol: creates the protocol of a connection.
        tls: the TLS context; None for connections without TLS.
        handshake_seconds: the maximum duration of a TLS handshake.
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
        self.tls = tls
        self.handshake_seconds = handshake_seconds
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._is_closed = False
        listening.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Stop accepting connections. Open connections stay open."""
        self._is_closed = True
        self._loop.remove_reader(self._listening)
        if self._resuming is not None:
            self._resuming.cancel()

    async def wait_closed(self) -> None:
        """Close the connections whose handshake has not completed."""
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
                # After any error, the listener must keep working, without a busy loop.
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
        log.warning("could not accept a connection", reason=error.strerror or str(error), retry_seconds=_PAUSE_SECONDS)
        self._loop.remove_reader(self._listening)
        self._resuming = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _refuse(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            if self.tls is None:
                accepted.send(no_slot())
                accepted.shutdown(socket.SHUT_WR)

    async def _open(self, accepted: socket.socket, slot: Slot) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(slot),
                accepted,
                ssl=self.tls,
                ssl_handshake_timeout=self.handshake_seconds if self.tls is not None else None,
            )
        except (OSError, TimeoutError):
            # The client does not speak TLS, does not trust the certificate, disconnected, or timed out.
            slot.release()
        except BaseException:
            slot.release()
            raise
