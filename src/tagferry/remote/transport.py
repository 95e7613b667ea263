"""One request to a registry, with everything that callers need not know: connections, auth, retries, errors.

What leaves this module is an answer whose status the caller asked for, or one of tagferry's errors. Every error's
sentence names the registry and what it was asked to do.
"""

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Self

import aiohttp
from yarl import URL

from tagferry import __version__
from tagferry.errors import Refused, TagferryError, TooLarge, Unavailable
from tagferry.oci.model import MANIFEST_SIZE_LIMIT
from tagferry.remote.answer import ERROR_LIMIT, Answer, failure
from tagferry.remote.auth import Authenticator, TokenRequest
from tagferry.remote.endpoint import Endpoint
from tagferry.remote.retry import Retry

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_READ_BUFFER = 256 * 1024
_TOKEN_LIMIT = 1024 * 1024
_SLOWEST_COMMIT = 20e6
"""Bytes a second that a registry is expected to check and store at least, once it has a whole blob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request.

    Attributes:
        task: completes the sentence "when asked to ...".
        url: an absolute URL, or a path with a query below the registry's address; encoded already.
        scopes: what a token must allow (Token Authentication, "scope").
        body: bytes can be sent again, a stream cannot.
        accept: the statuses that the caller handles; any other is raised as an error.
        redirects: whether another address may answer instead.
        limit: bytes that the answer's body may have.
    """

    method: str
    task: str
    url: str
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: "bytes | Stream | None" = None
    accept: frozenset[int] = frozenset({200})
    redirects: bool = False
    limit: int = MANIFEST_SIZE_LIMIT


class Stream:
    """A request body that is sent once, as it comes; `failure` is what its source raised, if it did."""

    def __init__(self, chunks: AsyncIterator[bytes], size: int, *, idle: float) -> None:
        self.size = size
        self.failure: Exception | None = None
        self._chunks = chunks
        self._idle = idle
        self._begun = False
        self._guard: asyncio.Timeout | None = None

    def guarded(self) -> asyncio.Timeout:
        """A scope for the request that ends it when the registry takes no byte for the idle time."""
        self._guard = asyncio.timeout(None)
        return self._guard

    def __aiter__(self) -> Self:
        if self._begun:
            # aiohttp repeats a PUT whose kept connection turned out to be dead; half of the bytes are gone by then.
            raise aiohttp.ClientConnectionError("the connection was lost and a stream cannot be sent again")
        self._begun = True
        return self

    async def __anext__(self) -> bytes:
        self._expect_progress(None)
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise
        self._expect_progress(self._idle)
        return chunk

    def _expect_progress(self, within: float | None) -> None:
        if self._guard is not None and not self._guard.expired():
            self._guard.reschedule(None if within is None else asyncio.get_running_loop().time() + within)


class Transport:
    """Sends requests to one registry; made anywhere, it opens its connections in the loop that first uses it."""

    def __init__(self, endpoint: Endpoint, *, retry: Retry) -> None:
        self.endpoint = endpoint
        self.retry = retry
        self._origin = URL(endpoint.url).origin()
        self._base = str(self._origin)
        self._auth = Authenticator(endpoint, self._exchange)
        self._slots = asyncio.Semaphore(endpoint.max_connections)
        self._uploads = asyncio.Semaphore(endpoint.max_connections)
        self._session: aiohttp.ClientSession | None = None
        self.round_trip: float | None = None
        """Seconds that the quickest answer so far took to begin; None before the first."""

    @property
    def name(self) -> str:
        """The registry's name."""
        return self.endpoint.name

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def upload_slot(self) -> asyncio.Semaphore:
        """What a request with a stream for a body is sent under; taken before the stream's source is opened."""
        return self._uploads

    def resolve(self, location: str, base: str | URL = "") -> URL:
        """The absolute URL that a Location or Link of this registry means.

        A registry behind a proxy that ends TLS may call itself `http`: its own host is asked in the way in which
        it was configured, so that nothing travels in clear that did not before.

        Raises:
            Unavailable: this is no http or https address.
        """
        if not base and location.startswith("/") and not location.startswith("//"):
            return URL(f"{self._base}{location}", encoded=True)
        try:
            url = self._origin.join(URL(str(base), encoded=True)).join(URL(location, encoded=True))
        except ValueError:
            raise Unavailable(f"registry {self.name} named an address that cannot be read") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise Unavailable(f"registry {self.name} named an address that is not of the web")
        if self._origin.scheme == "https" and url.scheme == "http" and url.host == self._origin.host:
            port = self._origin.explicit_port
            return URL(f"https://{url.raw_host}{f':{port}' if port else ''}{url.raw_path_qs}", encoded=True)
        return url

    def is_own(self, url: URL) -> bool:
        """Whether the registry itself answers there, so that it may see its credentials."""
        return url.origin() == self._origin

    async def fetch(self, call: Call, *, attempts: int | None = None) -> Answer:
        """Send a request and read its whole answer.

        Raises:
            Unavailable: a temporary fault that outlasted the retries.
            Refused, Invalid, Unsupported, NotFound: see `answer.failure`.
        """
        if isinstance(call.body, Stream):
            # Whoever sends a stream holds an upload slot by now, and a stream cannot be sent again.
            return await self._read(call, await self._authorized(call))

        async def attempt() -> Answer:
            async with self._slots:
                return await self._read(call, await self._authorized(call))

        retry = self.retry if attempts is None else replace(self.retry, attempts=attempts)
        return await retry.run(attempt)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """Send a request and hand out its answer's body as it comes; retries end where the body begins."""

        async def attempt() -> aiohttp.ClientResponse:
            response = await self._authorized(call)
            if response.status not in call.accept:
                await self._read(call, response)
            return response

        async with self._slots:
            response = await self.retry.run(attempt)
            try:
                yield Answer(response.status, response.headers), self._chunks(call, response)
            finally:
                _release(response)

    def failure(self, call: Call, answer: Answer) -> TagferryError:
        """The error that an answer means, for callers that accept a status and then do not know what to do."""
        return failure(self.name, call.task, answer)

    async def _authorized(self, call: Call) -> aiohttp.ClientResponse:
        """Send with the authorization that the registry wants, and once more where it wants another one."""
        url = self.resolve(call.url)
        own = self.is_own(url)
        authorization = await self._auth.authorization(call.scopes) if own else None
        response = await self._redirected(call, url, authorization)
        if response.status != 401 or not own or not self.is_own(response.url):
            return response
        offered = response.headers.getall("WWW-Authenticate", [])
        if not self._auth.learn(offered, call.scopes, authorization):
            if offered and self.endpoint.credentials is None:
                response.close()
                raise Refused(f"registry {self.name} asks for credentials to {call.task}; none is configured")
            return response
        response.close()
        if isinstance(call.body, Stream):
            raise Unavailable(f"registry {self.name} asked for a new authorization in the middle: {call.task}")
        return await self._redirected(call, url, await self._auth.authorization(call.scopes))

    async def _redirected(self, call: Call, url: URL, authorization: str | None) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            # Storage that is addressed by a signed URL refuses a foreign Authorization, and must not learn it.
            secret = {"Authorization": authorization} if authorization and self.is_own(url) else {}
            response = await self._send(call, url, {**call.headers, **secret})
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not call.redirects or not location:
                return response
            _release(response)
            url = self.resolve(location, response.url)
        raise Unavailable(f"registry {self.name} redirected more than {MAX_REDIRECTS} times when asked to {call.task}")

    async def _send(self, call: Call, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        body = call.body
        try:
            if isinstance(body, Stream):
                return await self._send_stream(call, url, headers, body)
            session, started = self._connected(), time.monotonic()
            response = await session.request(call.method, url, headers=headers, data=body, allow_redirects=False)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if isinstance(body, Stream) and body.failure is not None:
                raise body.failure from None
            raise self._fault(call, error) from error
        self.round_trip = min(self.round_trip or math.inf, time.monotonic() - started)
        return response

    async def _send_stream(
        self, call: Call, url: URL, headers: Mapping[str, str], body: Stream
    ) -> aiohttp.ClientResponse:
        timeout = self._timeout(longest_silence=max(self.endpoint.read_timeout, body.size / _SLOWEST_COMMIT))
        sized = {**headers, "Content-Length": str(body.size)}
        async with body.guarded():
            return await self._connected().request(
                call.method, url, headers=sized, data=body, timeout=timeout, allow_redirects=False
            )

    async def _read(self, call: Call, response: aiohttp.ClientResponse) -> Answer:
        """Read an answer's body, which is bounded; raises what an answer that the caller does not accept means."""
        wanted = response.status in call.accept
        limit = call.limit if wanted else ERROR_LIMIT
        body = bytearray()
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limit:
                    break
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # An error's status says enough; its words may be lost where the registry hung up on an upload.
            if wanted:
                raise self._fault(call, error) from error
        finally:
            _release(response)
        answer = Answer(response.status, response.headers, bytes(body[:limit]))
        if not wanted:
            raise self.failure(call, answer)
        if len(body) > limit:
            raise TooLarge(f"the answer of registry {self.name} to {call.task}", f"must have at most {limit} bytes")
        return answer

    async def _chunks(self, call: Call, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            # As they came in: joining what has been buffered would copy every byte once more.
            async for chunk, _ in response.content.iter_chunks():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._fault(call, error) from error

    async def _exchange(self, request: TokenRequest) -> bytes:
        # Outside of the slots: who needs the token holds one.
        url = URL(request.url, encoded=True)
        call = Call(
            method=request.method,
            task=f"give a token at {url.with_query(None)}",
            url=request.url,
            body=request.body,
            # A token server says 400 to a bad refresh token and 401 to a bad password.
            accept=frozenset({200, 400, 401}),
            limit=_TOKEN_LIMIT,
        )

        async def attempt() -> Answer:
            return await self._read(call, await self._send(call, url, request.headers))

        answer = await self.retry.run(attempt)
        if answer.status == 200:
            return answer.body
        raise Refused(str(self.failure(call, answer)))

    def _fault(self, call: Call, error: Exception) -> TagferryError:
        if isinstance(error, TimeoutError):
            return Unavailable(f"registry {self.name} did not answer in time when asked to {call.task}")
        # A certificate that does not verify is a ValueError too, so the order of these questions matters.
        known = isinstance(error, aiohttp.ClientError | OSError)
        if isinstance(error, aiohttp.InvalidURL) or not known:
            return Unavailable(f"registry {self.name} named an address that cannot be used when asked to {call.task}")
        reason = str(error) or type(error).__name__
        return Unavailable(f"registry {self.name} could not be reached to {call.task}: {reason}")

    def _timeout(self, *, longest_silence: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self.endpoint.connect_timeout, sock_read=longest_silence)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The slots bound the connections; a limit here could make an upload wait for its own source.
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout(longest_silence=self.endpoint.read_timeout),
                auto_decompress=False,
                read_bufsize=_READ_BUFFER,
                headers={"User-Agent": f"tagferry/{__version__}", "Accept-Encoding": "identity"},
                skip_auto_headers=("Accept", "Content-Type"),
            )
        return self._session

    def _tls(self) -> ssl.SSLContext | bool:
        if self.endpoint.insecure_skip_verify:
            return False
        if self.endpoint.ca_file is None:
            return True
        return ssl.create_default_context(cafile=self.endpoint.ca_file)


def _release(response: aiohttp.ClientResponse) -> None:
    """Give the connection back for reuse if the answer was read to its end, else close it."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()
