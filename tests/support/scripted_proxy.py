"""An HTTP proxy that follows a test's script: it tunnels, relays, requires a password, and counts."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_STEP = 64 * 1024


@dataclass
class ScriptedProxy:
    """The script and the received requests.

    Attributes:
        url: the address.
        login: the required `user:password`; empty for no login.
        hosts: the targets of names, as HOST:PORT by HOST:PORT; other names are resolved.
        refusal: the response to every request; empty to serve them.
        asked: the first line of every request, in the order of arrival.
        logins: the `Proxy-Authorization` of every request.
        relayed: bytes sent to the hosts behind the proxy.
    """

    url: str = ""
    login: str = ""
    hosts: dict[str, str] = field(default_factory=dict)
    refusal: bytes = b""
    asked: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)
    relayed: int = 0

    @property
    def url_with_login(self) -> str:
        return self.url.replace("://", f"://{self.login}@")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            self.asked.append(first)
            self.logins.append(fields.get("proxy-authorization"))
            if self.refusal:
                writer.write(self.refusal)
            elif self.login and self.logins[-1] != f"Basic {b64encode(self.login.encode()).decode()}":
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            else:
                await self._pass(first, lines, reader, writer)
            await writer.drain()

    async def _pass(
        self, first: str, lines: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, target, version = first.split(" ")
        if method == "CONNECT":
            there, back = await self._connect(target)
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 scripted\r\n\r\n")
        else:
            url = urlsplit(target)
            there, back = await self._connect(f"{url.hostname}:{url.port or 80}")
            path = target.partition("://")[2].partition("/")[2]
            kept = [line for line in lines if not line.lower().startswith("proxy-")]
            back.write("\r\n".join([f"{method} /{path} {version}", *kept]).encode("latin-1"))
        try:
            await asyncio.gather(self._pump(reader, back, counts=True), self._pump(there, writer))
        finally:
            back.close()

    async def _connect(self, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.hosts.get(target, target).rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(_STEP):
                if counts:
                    self.relayed += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def scripted_proxy(*, tls: ssl.SSLContext | None = None, login: str = "") -> AsyncIterator[ScriptedProxy]:
    """Run a proxy on a free port of loopback, over TLS if a server context is given."""
    proxy = ScriptedProxy(login=login)
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    proxy.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
