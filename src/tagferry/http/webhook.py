"""A client for webhooks."""

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
    """Posts bodies to one URL, each once and over its own connection; redirects are not followed.

    A pooled connection could turn out to be closed, and the outcome of the request would be unknown.

    Args:
        url: http or https, percent-encoded.
        tls: the trusted authorities; the system's by default.
        proxy: as in `Endpoint`.
        seconds: timeout of a whole request.
    """

    def __init__(
        self, url: str, *, tls: ClientTls | None = None, proxy: str | None = None, seconds: float = 10.0
    ) -> None:
        self._url = url
        self._seconds = seconds
        self._tls = ClientContexts(tls)
        self._proxies = Proxies(proxy)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Post a body and return the status, which is 2xx.

        Raises:
            Unavailable: the request failed or was refused. The message does not include the URL.
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
            # The response's body is not used.
            await connections.close()
        if response.status in range(200, 300):
            return response.status
        unfollowed = "; redirects are not followed" if response.status in range(300, 400) else ""
        raise Unavailable(
            f"the webhook answered {response.status}{unfollowed}", retry_after=retry_after(response.headers)
        )
