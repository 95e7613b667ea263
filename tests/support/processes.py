"""Programs that listen on loopback, as tests and benchmarks start them."""

import asyncio
import socket
import subprocess
import time

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_it_listens(process: subprocess.Popen[bytes], address: str) -> None:
    """Wait until somebody accepts connections there; raises RuntimeError if nobody does."""
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


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)


async def outcome(process: asyncio.subprocess.Process, *, seconds: float) -> tuple[bytes, bytes]:
    """What a process has written to its pipes, once it has ended; it is killed where nobody waits any longer."""
    try:
        return await asyncio.wait_for(process.communicate(), seconds)
    except BaseException:
        process.kill()
        await process.wait()
        raise
