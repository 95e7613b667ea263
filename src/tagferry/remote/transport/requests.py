"""Requests to one registry: authorization, retries and limits.

The result is a response with a status that the caller accepts, or a `TagferryError` whose message names the registry
and the task.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial

from tagferry.concurrency import EXTERNAL_WAIT
from tagferry.errors import TagferryError
from tagferry.http.connection import Stream
from tagferry.http.early_sockets import EarlySockets
from tagferry.http.faults import CircuitOpen, ConnectionTimedOut
from tagferry.http.response import Response
from tagferry.remote.transport.authorization import AuthorizedSender, Sender
from tagferry.remote.transport.body import Body
from tagferry.remote.transport.call import Call as Call
from tagferry.remote.transport.counts import RegistryCounts
from tagferry.remote.transport.endpoint import Endpoint
from tagferry.remote.transport.exchange import MIN_COMMIT_RATE, Exchange
from tagferry.remote.transport.observed import Observed
from tagferry.remote.transport.rate import HostLimiters, RequestLimiter
from tagferry.remote.transport.registry_urls import RegistryUrls
from tagferry.remote.transport.response import Answer
from tagferry.remote.transport.retry import Retries, Retry, RetryBudget
from tagferry.remote.transport.throttle import Load, Slots, Throttle

HIGH_LATENCY_SECONDS = 0.025
"""Response time from which a registry counts as one with a high latency.

The fastest response of a busy machine takes up to 20 ms, where blobs are still best sent through the kernel. Over a
network with such a latency, one connection with a window of 3 MB still carries 1 Gbit/s."""


class Transport:
    """Sends requests to one registry; connections belong to the event loop of the first request.

    Args:
        endpoint: the registry's address and connection settings.
        retry: the retry policy for temporary faults.
        early: connections that have begun already.
    """

    def __init__(self, endpoint: Endpoint, *, retry: Retry, early: EarlySockets | None = None) -> None:
        self.endpoint = endpoint
        counts = RegistryCounts(endpoint.name)
        self.retry = Retries(retry, RetryBudget(), on_retry=counts.retried)
        self._urls = RegistryUrls(endpoint.name, endpoint.url)
        self._throttle = Throttle(
            endpoint.max_connections, max_wait=retry.max_wait, sleep=retry.sleep, throttled=counts.throttled
        )
        self._exchange = Exchange(
            endpoint,
            urls=self._urls,
            throttle=self._throttle,
            limiters=HostLimiters(sleep=retry.sleep),
            max_wait=retry.max_wait,
            counts=counts,
            with_hint=lambda call, error: self._authorized.with_permission_hint(call, error),
            early=early,
        )
        self._authorized = AuthorizedSender(
            endpoint,
            Sender(
                follow=self._exchange.send_with_redirects,
                send=self._exchange.send,
                read=self._exchange.read,
                resolve=self._urls.resolve,
                is_own=self._urls.is_own,
                wait_for_rate=self.wait_for_rate,
                display_name=self._exchange.display_name,
            ),
        )

    @property
    def missing_hint(self) -> str:
        """The advice for a reader of an image of which the registry lacks a part."""
        return f"registry {self.name} lacks it; push the image there again"

    @property
    def high_latency(self) -> bool | None:
        """True if the registry has a noticeable latency; None while it is unknown."""
        fastest = self._exchange.round_trip
        return None if fastest is None else fastest >= HIGH_LATENCY_SECONDS

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    def resolve(self, location: str, base: str = "") -> str:
        """See `RegistryUrls.resolve`."""
        return self._urls.resolve(location, base)

    def is_own(self, url: str) -> bool:
        """See `RegistryUrls.is_own`."""
        return self._urls.is_own(url)

    def failure(self, call: Call, answer: Answer) -> TagferryError:
        """See `Exchange.failure`."""
        return self._exchange.failure(call, answer)

    @property
    def name(self) -> str:
        """The registry's name."""
        return self.endpoint.name

    def upload_slot(self) -> Slots:
        """Return the slots for requests with a stream; acquire one before opening the stream's source."""
        return self._throttle.uploads

    @property
    def limiter(self) -> RequestLimiter:
        """The rate limiter of the registry itself."""
        return self._throttle.limiter

    async def wait_for_rate(self) -> None:
        """Wait until another request may start under a slot that is held."""
        await self._throttle.limiter.acquire()

    async def fetch(self, call: Call, *, once: bool = False) -> Answer:
        """Send a request and read its whole response.

        Args:
            call: the request.
            once: do not retry.

        Raises:
            Unavailable: a temporary fault that outlasted the retries.
            Refused, Invalid, Unsupported, NotFound: see `response.failure`.
        """
        if isinstance(call.body, Stream):
            # The caller of a stream holds an upload slot already, and a stream cannot be sent again.
            return await self._exchange.read(call, await self._authorized.send(call))

        async def attempt() -> Answer:
            with self._circuit_guard(call):
                async with self._throttle.requests:
                    return await self._fetch_in_time(call)

        with EXTERNAL_WAIT.get():
            return await attempt() if once else await self.retry.run(attempt)

    @asynccontextmanager
    async def open(self, call: Call, *, once: bool = False) -> AsyncIterator[tuple[Answer, Body]]:
        """Send a request and yield its response with a streamed body; it is not retried after the body has begun.

        Args:
            call: the request.
            once: do not retry.
        """

        async def attempt() -> tuple[AsyncExitStack, Response]:
            with self._circuit_guard(call):
                async with AsyncExitStack() as held:
                    await held.enter_async_context(self._throttle.requests)
                    response = await self._authorized.send(call)
                    if response.status not in call.accept:
                        await self._exchange.read(call, response)
                    held.callback(response.close)
                    return held.pop_all(), response

        with EXTERNAL_WAIT.get():
            held, response = await (attempt() if once else self.retry.run(attempt))
        async with held:
            answer = Answer(response.status, response.headers, url=response.url)
            yield answer, Body(response, partial(self._exchange.error_of, call), call.whole)

    @property
    def identity(self) -> int:
        """See `ImageStore.identity`."""
        return self._authorized.identity

    def expect_writes(self, repository: str) -> None:
        """Include write access to a repository in all later token requests for it."""
        self._authorized.expect_writes(repository)

    def expects_writes(self, repository: str) -> bool:
        """Return whether a repository is written to."""
        return self._authorized.expects_writes(repository)

    async def user(self, repository: str) -> str:
        """Return the name of the user for a repository, as it appears in messages."""
        return await self._authorized.user(repository)

    @property
    def observed(self) -> Observed:
        """The health of the registry as its responses have shown it."""
        return self._exchange.observed

    @property
    def connections(self) -> tuple[int, int]:
        """The number of connections in use, and of idle ones."""
        return self._exchange.connections

    @property
    def free_requests(self) -> int:
        """The number of requests, other than uploads, that need not wait for others."""
        return self._throttle.requests.free

    @property
    def load(self) -> Load:
        """The current load of the registry by this process."""
        return self._throttle.load

    async def sign_in(self, *, once: bool = False) -> None:
        """Authenticate without another request; raise Refused if the credentials are not accepted.

        Args:
            once: do not retry, and do not wait for a slot.
        """
        if once:
            await self._authorized.sign_in()
            return

        async def attempt() -> None:
            async with self._throttle.requests:
                await self._authorized.sign_in()

        await self.retry.run(attempt)

    @contextmanager
    def _circuit_guard(self, call: Call) -> Iterator[None]:
        """Make an attempt; raise Unavailable, before waiting for a slot or a token, if the circuit is open."""
        try:
            with self._exchange.circuits.guard():
                yield
        except CircuitOpen as fault:
            raise self._exchange.error_of(call, fault) from None

    async def _fetch_in_time(self, call: Call) -> Answer:
        """Make one attempt, which ends when it takes too long as a whole, however slowly its bytes arrive."""
        deadline = asyncio.timeout(self.endpoint.request_timeout + call.bytes_to_verify / MIN_COMMIT_RATE)
        try:
            async with deadline:
                return await self._exchange.read(call, await self._authorized.send(call))
        except TimeoutError:
            if not deadline.expired():
                raise
            raise self._exchange.error_of(call, ConnectionTimedOut()) from None
