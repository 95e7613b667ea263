"""Programs that listen on loopback, as tests and benchmarks start them."""

import asyncio
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import NoReturn

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_PORTS = range(10_000, 32_000)
"""Linux gives higher ports to connections, so that one could be taken before a server listens there."""
_PORT_ATTEMPTS = 100
_reserved: deque[socket.socket] = deque(maxlen=256)
"""The sockets that are bound to the ports given last. None of them listens."""
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def free_port() -> int:
    """A free port of 127.0.0.1, which no other test gets while it is one of this process's last 256.

    A socket stays bound to it, so that the socket of another call cannot be. The socket of a server can be bound and
    listen, since both have the option SO_REUSEADDR.
    """
    for _ in range(_PORT_ATTEMPTS):
        port = secrets.choice(_PORTS)
        reserved = socket.socket()
        try:
            reserved.bind(("127.0.0.1", port))
        except OSError:
            reserved.close()
            continue
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if len(_reserved) == _reserved.maxlen:
            # Closed here: left to the garbage collector, it would warn.
            _reserved.popleft().close()
        _reserved.append(reserved)
        return port
    raise RuntimeError(f"no port of {_PORTS} is free")


def wait_until_it_listens(process: subprocess.Popen[bytes], address: str) -> None:
    """Wait until the address accepts connections; raises RuntimeError on timeout."""
    host, _, port = address.partition(":")
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not come up")


def tied(command: Sequence[str]) -> list[str]:
    """A command whose process the kernel kills when its parent ends, however that ends (Linux, util-linux)."""
    return ["setpriv", "--pdeathsig", "KILL", *command]


def exit_on_signals() -> None:
    """Let signals that end this process end it as an exception does, so that it stops what it has started."""

    def leave(number: int, _frame: object) -> NoReturn:
        for ending in _ENDING:
            signal.signal(ending, signal.SIG_IGN)
        sys.exit(128 + number)

    for ending in _ENDING:
        signal.signal(ending, leave)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)


async def outcome(process: asyncio.subprocess.Process, *, seconds: float) -> tuple[bytes, bytes]:
    """Return the output of a process once it has ended. The process is killed if the wait is cancelled."""
    try:
        return await asyncio.wait_for(process.communicate(), seconds)
    except BaseException:
        process.kill()
        await process.wait()
        raise
