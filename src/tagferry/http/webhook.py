"""Sends something to an address that is no registry's: a webhook."""

import asyncio
from collections.abc import Mapping

from tagferry import __version__
from tagferry.errors import Unavailable
from tagferry.http.faults import ConnectionFailed, ConnectionTimedOut
from tagferry.http.pool import ConnectionPool
from tagferry.http.proxies import Proxies
from tagferry.http.retry_after import retry_after
from tagferry.tls import ClientContexts, ClientTls


class WebhookClient:
    """Sends bodies to one address, each once and over a connection of its own; it is led nowhere else.

    A connection that is kept could turn out to be dead, and then nobody knows whether what was sent has arrived.

    Args:
        url: http or https, encoded already.
        tls: whom to trust; by default the system's authorities.
        proxy: as an endpoint has it.
        seconds: how long a request may take as a whole.
    """

    def __init__(
        self, url: str, *, tls: ClientTls | None = None, proxy: str | None = None, seconds: float = 10.0
    ) -> None:
        self._url = url
        self._seconds = seconds
        self._tls = ClientContexts(tls)
        self._proxies = Proxies(proxy)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a body; returns the status, which is one of success.

        Raises:
            Unavailable: it was not taken. The sentence does not tell where it was sent.
        """
        connections = ConnectionPool(
            tls=self._tls,
            proxies=self._proxies,
            headers={"User-Agent": f"tagferry/{__version__}", "Connection": "close"},
            connect_timeout=self._seconds,
        )
        deadline = asyncio.timeout(self._seconds)
        try:
            async with deadline:
                response = await connections.send("POST", self._url, headers, body, idle_timeout=self._seconds)
        except (TimeoutError, ConnectionTimedOut) as fault:
            if isinstance(fault, TimeoutError) and not deadline.expired():
                raise
            raise Unavailable(f"the webhook did not answer within {self._seconds:g} s") from None
        except ConnectionFailed as fault:
            raise Unavailable("the webhook could not be reached") from fault
        finally:
            # What the answer says besides its status is nobody's business.
            await connections.close()
        if response.status in range(200, 300):
            return response.status
        unfollowed = "; redirects are not followed" if response.status in range(300, 400) else ""
        raise Unavailable(
            f"the webhook answered {response.status}{unfollowed}", retry_after=retry_after(response.headers)
        )
