"""Runs an ASGI application on a free port of this machine, in the test's own event loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0


class _Server(uvicorn.Server):
    """Leaves the process's signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve the application and give its base URL, without a slash at the end."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, lifespan="auto", log_level="warning", access_log=False, timeout_graceful_shutdown=1, ws="none"
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not server.started:
                if running.done():
                    await running
                    raise RuntimeError("the application did not start")
                await asyncio.sleep(0.005)
        yield "http://{}:{}".format(*listener.getsockname())
    finally:
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running, _STOP_SECONDS)
        listener.close()
