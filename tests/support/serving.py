"""Run an ASGI application on a free port, in the event loop of the test."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_GRACE_SECONDS = 1.0
_PAUSE_SECONDS = 0.005


class _Server(uvicorn.Server):
    """A server that leaves signals to pytest, and stops without the pauses that only matter to real clients.

    Attributes:
        leaving: set to end it.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.leaving = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            _, late = await asyncio.wait(self.server_state.tasks, timeout=_GRACE_SECONDS)
            for task in late:
                task.cancel()
        await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve the application and yield its base URL, without a trailing slash."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="auto", log_level="warning", access_log=False, ws="none")
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not server.started:
                if running.done():
                    await running
                    raise RuntimeError("the application did not start")
                await asyncio.sleep(_PAUSE_SECONDS)
        yield "http://{}:{}".format(*listener.getsockname())
    finally:
        server.leaving.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running, _STOP_SECONDS)
        listener.close()
