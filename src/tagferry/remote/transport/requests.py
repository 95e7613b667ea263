"""Requests to one registry: connections, redirects, retries and errors.

`authorization` adds the authorization, and sends each request through this module.

The result is a response with a status that the caller accepts, or a `TagferryError` whose message names the registry
and the task.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from urllib.parse import urljoin, urlsplit

from tagferry import __version__, bounds
from tagferry.concurrency import EXTERNAL_WAIT
from tagferry.errors import AnswerTooLarge, Invalid, Refused, TagferryError, Unavailable, Untrusted
from tagferry.http.address_policy import ANY_ADDRESS, AddressForbidden, AddressPolicy, Zone, zone_of, zone_of_host
from tagferry.http.connection import Stream
from tagferry.http.content_coding import codings, decoded
from tagferry.http.faults import (
    CircuitOpen,
    ConnectionFailed,
    ConnectionRejected,
    ConnectionTimedOut,
    ConnectTimedOut,
    TransferTooSlow,
)
from tagferry.http.pool import ConnectionPool
from tagferry.http.proxies import Proxies
from tagferry.http.response import Response
from tagferry.http.urls import LONGEST_HOST, PORTS, Origin, encoded, host_of, origin_of
from tagferry.metrics import BOUND_REACHED
from tagferry.remote.transport.authorization import MAX_REDIRECTS, REDIRECTS, ROOT, AuthorizedSender, Sender
from tagferry.remote.transport.body import Body
from tagferry.remote.transport.call import Call as Call
from tagferry.remote.transport.circuit_breaker import CircuitBreakers
from tagferry.remote.transport.credential_hosts import HostList
from tagferry.remote.transport.endpoint import Endpoint
from tagferry.remote.transport.rate import HostLimiters, RequestLimiter
from tagferry.remote.transport.response import Answer, LargeAnswerSlot, failure
from tagferry.remote.transport.retry import Retries, Retry, RetryBudget
from tagferry.remote.transport.throttle import Slots, Throttle, record_response
from tagferry.tls import ClientContexts

HIGH_LATENCY_SECONDS = 0.01
"""Response time from which a registry counts as one with a high latency."""
_MIN_COMMIT_RATE = 20e6
"""Minimum rate, in bytes per second, at which a registry is expected to verify and store a whole blob."""


class StreamRedirected(Unavailable):
    """A stream was redirected after some of it had been sent: send it again to `url`, from its beginning."""

    def __init__(self, message: str, *, method: str, url: str) -> None:
        super().__init__(message)
        self.method = method
        self.url = url


class Transport:
    """Sends requests to one registry; connections belong to the event loop of the first request."""

    def __init__(self, endpoint: Endpoint, *, retry: Retry) -> None:
        self.endpoint = endpoint
        self.retry = Retries(retry, RetryBudget())
        self._own = urlsplit(endpoint.url)
        origin = origin_of(endpoint.url)
        # A registry on port 80 that redirects to port 443 of the same host is more secure than its configuration.
        self._origins = {origin, ("https", origin[1], 443)} if origin[::2] == ("http", 80) else {origin}
        self._expects_continue, self._may_expect_continue = False, True
        self._origin = origin
        self._token_hosts, self._redirect_hosts = HostList(endpoint.token_hosts), HostList(endpoint.redirect_hosts)
        self._zone: Zone | None = None
        self._base = f"{self._own.scheme}://{self._own.netloc}"
        self._authorized = AuthorizedSender(
            endpoint,
            Sender(
                follow=self._send_with_redirects,
                send=self._send,
                read=self._read,
                resolve=self.resolve,
                is_own=self.is_own,
                wait_for_rate=self.wait_for_rate,
                display_name=self._display_name,
            ),
        )
        self._max_wait = retry.max_wait
        self._throttle = Throttle(endpoint.max_connections, max_wait=retry.max_wait, sleep=retry.sleep)
        self._host_limiters = HostLimiters(sleep=retry.sleep)
        self._proxies = Proxies(endpoint.proxy)
        self._circuits = CircuitBreakers()
        self._large_answers = asyncio.Semaphore(bounds.LARGE_ANSWERS)
        self._pool: ConnectionPool | None = None
        self.round_trip: float | None = None
        """Seconds until the registry's fastest response began; None before the first response."""

    @property
    def name(self) -> str:
        """The registry's name."""
        return self.endpoint.name

    @property
    def high_latency(self) -> bool | None:
        """True if the registry has a noticeable latency; None while it is unknown."""
        return None if self.round_trip is None else self.round_trip >= HIGH_LATENCY_SECONDS

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

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

    def resolve(self, location: str, base: str = "") -> str:
        """Return the absolute URL of a Location or Link.

        A registry behind a proxy that terminates TLS may name itself with `http`. Its own host is always requested with
        the configured scheme, so that nothing is sent in clear that was not before.

        Raises:
            Unavailable: the URL is not a valid http or https URL.
        """
        if len(location) > bounds.ADDRESS_CHARACTERS:
            raise Unavailable(
                f"registry {self.name} returned a URL of more than {bounds.ADDRESS_CHARACTERS} characters"
            )
        try:
            location = encoded(location)
            if location.startswith("/") and not location.startswith("//") and self._is_at_base(base):
                return f"{self._base}{location}".partition("#")[0]
            if location.startswith(f"{self._base}/"):
                return location.partition("#")[0]
            url = urlsplit(urljoin(urljoin(self._base, base), location))
            if url.scheme in PORTS and url.hostname:
                origin_of(url.geturl())
        except (ValueError, Invalid):
            raise Unavailable(f"registry {self.name} returned an invalid URL") from None
        if url.scheme not in PORTS or not url.hostname or len(url.hostname) > LONGEST_HOST:
            raise Unavailable(f"registry {self.name} returned a URL that is not http or https")
        if self._own.scheme == "https" and url.scheme == "http" and url.hostname == self._own.hostname:
            url = url._replace(scheme="https", netloc=self._own.netloc)
        return url._replace(fragment="").geturl()

    def is_own(self, url: str) -> bool:
        """Return whether a URL is the registry's own, so that it may receive the credentials."""
        return origin_of(url) in self._origins

    def _is_same(self, first: str, url: str) -> bool:
        """Return whether the authorization of a request to the first URL may be sent to the other one."""
        return self.is_own(url) if self.is_own(first) else origin_of(url) == origin_of(first)

    def _is_at_base(self, base: str) -> bool:
        return base.startswith((f"{self._base}/", "/")) or not base

    async def fetch(self, call: Call, *, once: bool = False, holds_slot: bool = False) -> Answer:
        """Send a request and read its whole response.

        Args:
            call: the request.
            once: do not retry.
            holds_slot: the caller holds an upload slot, under which this is sent.

        Raises:
            Unavailable: a temporary fault that outlasted the retries.
            Refused, Invalid, Unsupported, NotFound: see `response.failure`.
        """
        if isinstance(call.body, Stream):
            # The caller of a stream holds an upload slot already, and a stream cannot be sent again.
            return await self._read(call, await self._authorized.send(call))

        async def attempt() -> Answer:
            with self._circuit_guard(call):
                async with nullcontext() if holds_slot else self._throttle.requests, self._deadline(call):
                    return await self._read(call, await self._authorized.send(call))

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
                        await self._read(call, response)
                    held.callback(response.close)
                    return held.pop_all(), response

        with EXTERNAL_WAIT.get():
            held, response = await (attempt() if once else self.retry.run(attempt))
        async with held:
            answer = Answer(response.status, response.headers, url=response.url)
            yield answer, Body(response, partial(self._error_of, call), call.whole)

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

    async def sign_in(self) -> None:
        """Authenticate without another request; raise Refused if the credentials are not accepted."""

        async def attempt() -> None:
            async with self._throttle.requests:
                await self._authorized.sign_in()

        await self.retry.run(attempt)

    def failure(self, call: Call, answer: Answer) -> TagferryError:
        """Return the error for a response, for callers that accept its status and then cannot handle it."""
        is_trusted = call.is_for_token and self.endpoint.may_get_credentials(answer.url)
        if answer.url and not (is_trusted or self.is_own(answer.url)):
            # The error text of another host may include what users here should not read, so only its status is used.
            answer = replace(answer, body=b"")
        return self._authorized.with_permission_hint(call, failure(self._display_name(answer.url), call.task, answer))

    def _display_name(self, url: str) -> str:
        """Return the registry's name in messages, with the proxy that may have sent the response."""
        try:
            proxy = self._proxies.find(origin_of(url)) if url.startswith("http:") else None
        except Invalid:
            proxy = None
        return self.name if proxy is None else f"{self.name} (through proxy {proxy})"

    async def _send_with_redirects(self, call: Call, url: str, authorization: str | None) -> Response:
        """Send a request and follow redirects with the same method and body, as Go's client does for 307 and 308.

        After 301 and 302, Go's client turns a POST into a GET without a body, which opens no upload; here, a write
        keeps its method. 303 names another resource as the response, which is requested by GET.

        Raises:
            StreamRedirected: the body is a stream that has begun.
        """
        first = url
        for _ in range(MAX_REDIRECTS + 1):
            if not call.is_content and self._own.scheme == "https" and url.startswith("http:"):
                raise Refused(
                    f"registry {self.name} redirected to http://{host_of(url)}, without TLS, when asked to {call.task}"
                )
            # Storage with signed URLs refuses a foreign Authorization, and must not receive it. Nor may it trigger an
            # authorized request by redirecting back, so an authorization that was dropped once stays dropped.
            authorization = authorization if self._is_same(first, url) else None
            secret = {"Authorization": authorization} if authorization else {}
            response = await self._send(call, url, {**call.headers, **secret})
            if self._may_send_again(call, response):
                response.close()
                continue
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or not (call.redirects or call.writes) or not location:
                return response
            response.close()
            url = self.resolve(location, response.url)
            call = self._redirected_call(call, response.status, url)
        raise Unavailable(f"registry {self.name} redirected more than {MAX_REDIRECTS} times when asked to {call.task}")

    def _redirected_call(self, call: Call, status: int, url: str) -> Call:
        """Return the request to send to the target of a redirect."""
        if status == 303 and call.writes:
            return replace(call, method="GET", headers={}, body=b"", redirects=True)
        self._expects_continue = self._expects_continue or call.writes
        if isinstance(call.body, Stream) and call.body.has_begun:
            message = f"registry {self.name} redirected to {host_of(url)} in the middle of the request to {call.task}"
            raise StreamRedirected(message, method=call.method, url=url)
        return call

    def _may_send_again(self, call: Call, response: Response) -> bool:
        """Return whether a server refused a stream only because of `Expect`, and do not send that header again."""
        body = call.body
        if not isinstance(body, Stream) or response.status != 417 or body.has_begun:
            return False
        self._may_expect_continue = False
        return True

    async def _send(self, call: Call, url: str, headers: Mapping[str, str]) -> Response:
        body = call.body
        if isinstance(body, Stream):
            body.expects_continue = self._expects_continue and self._may_expect_continue
        idle_timeout = max(self.endpoint.read_timeout, call.bytes_to_verify / _MIN_COMMIT_RATE)
        is_own = self.is_own(url)
        limiter = None if is_own else self._host_limiters.of(origin_of(url))
        if limiter is not None:
            await limiter.acquire()
        started, origin = time.monotonic(), origin_of(url)
        try:
            with self._circuits.request(origin, is_needed=limiter is None or call.is_for_token):
                response = await self._connection_pool().send(
                    call.method,
                    url,
                    headers,
                    body,
                    idle_timeout=idle_timeout,
                    min_rate=self.endpoint.min_bytes_per_second,
                    with_certificate=self._may_send_certificate(call, url),
                    address_policy=ANY_ADDRESS if is_own else self._address_policy(origin),
                )
        except AddressForbidden as fault:
            raise self._address_forbidden(call, url, fault) from None
        except ConnectionFailed as fault:
            error = self._error_of(call, fault)
            if isinstance(error, Unavailable) and self._circuits.is_open(origin):
                # The caller decides whether to keep waiting, since it may hold resources that others need.
                error.is_final = True
            raise error from fault
        if isinstance(body, Stream) and body.got_continue is False:
            self._may_expect_continue = False
        if is_own and self._zone is not Zone.PUBLIC:
            self._update_zone(response)
        if limiter is None:
            self._throttle.record_response(response.status, response.headers)
        else:
            record_response(limiter, response.status, response.headers, max_wait=self._max_wait)
        if is_own and not isinstance(body, Stream):
            self.round_trip = min(self.round_trip or math.inf, time.monotonic() - started)
        return response

    def _update_zone(self, response: Response) -> None:
        """Record the registry's zone; a registry that was at a public address once stays public."""
        if self._proxies.find(origin_of(response.url)) is not None or response.peer is None:
            zone = zone_of_host(self._origin[1]) or Zone.PUBLIC
        else:
            zone = zone_of(response.peer)
        self._zone = zone if self._zone is None else min(zone, self._zone)

    def _address_policy(self, origin: Origin) -> AddressPolicy:
        """Return the addresses allowed for a host that the registry names."""
        if self._token_hosts.covers(origin) or self._redirect_hosts.covers(origin):
            return ANY_ADDRESS
        return AddressPolicy(self._zone or Zone.PUBLIC)

    def _address_forbidden(self, call: Call, url: str, fault: AddressForbidden) -> Refused:
        host = urlsplit(url).hostname
        setting = "token_hosts" if call.is_for_token else "redirect_hosts"
        return Refused(
            f"registry {self.name} named {host_of(url)}, which has a {fault.zone} address, when asked to "
            f'{call.task}; to allow it, add "{host}" to {setting} of its region'
        )

    @contextmanager
    def _circuit_guard(self, call: Call) -> Iterator[None]:
        """Make an attempt; raise Unavailable, before waiting for a slot or a token, if the circuit is open."""
        try:
            with self._circuits.guard():
                yield
        except CircuitOpen as fault:
            raise self._error_of(call, fault) from None

    def _may_send_certificate(self, call: Call, url: str) -> bool:
        """Return whether to present the client's certificate: to the registry's host and to its token server."""
        has_one = self.endpoint.client_certificate is not None
        if not has_one or urlsplit(url).hostname == self._own.hostname:
            return has_one
        return call.is_for_token and self.endpoint.may_get_credentials(url)

    async def _read(self, call: Call, response: Response) -> Answer:
        """Read a bounded response body; raise the error for a response that the caller does not accept."""
        wanted = response.status in call.accept and not self._is_web_page(call, response)
        is_refusal = response.status >= 400
        limit = call.limit if wanted else bounds.ERROR_BODY_BYTES
        slot = LargeAnswerSlot(self._large_answers)
        try:
            body = await self._body(call, response, limit, slot, is_needed=wanted)
        except BaseException:
            # A cancelled task may keep its frames, and so the slot, until a later garbage collection.
            slot.release()
            raise
        is_too_long = len(body) > limit
        del body[limit:]
        answer = Answer(response.status, response.headers, bytes(body), url=response.url, slot=slot)
        if not wanted:
            raise self.failure(call, answer)
        if is_too_long and not is_refusal:
            slot.release()
            raise AnswerTooLarge(
                f"the answer of registry {self.name} to {call.task}", f"must have at most {limit} bytes"
            )
        return answer

    async def _body(
        self, call: Call, response: Response, limit: int, slot: LargeAnswerSlot, *, is_needed: bool
    ) -> bytearray:
        """Read a body up to slightly more than the limit; a large one only under a slot."""
        body, most_small = bytearray(), min(limit, bounds.LARGE_ANSWER_BYTES)
        chunks, applied = response.chunks(), codings(response.headers)
        try:
            async for chunk in decoded(chunks, applied) if applied else chunks:
                body += chunk
                if len(body) > limit:
                    break
                if len(body) > most_small:
                    await slot.acquire()
                    most_small = limit
        except ConnectionFailed as fault:
            # The status of an error is sufficient; its text may be lost if the registry closed the connection of an
            # upload.
            if is_needed and not (response.status >= 400 and isinstance(fault, ConnectionRejected)):
                raise self._error_of(call, fault) from fault
        finally:
            response.close()
        return body

    def _is_web_page(self, call: Call, response: Response) -> bool:
        """Return whether a write or a login was redirected to a web page, whose status says nothing."""
        is_html = response.status == 200 and response.headers.get("Content-Type", "").startswith("text/html")
        return is_html and (call.writes or call.url == ROOT) and response.url != self.resolve(call.url)

    @asynccontextmanager
    async def _deadline(self, call: Call) -> AsyncIterator[None]:
        """End a request that takes too long as a whole, however slowly its bytes arrive."""
        deadline = asyncio.timeout(self.endpoint.request_timeout + call.bytes_to_verify / _MIN_COMMIT_RATE)
        try:
            async with deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise self._error_of(call, ConnectionTimedOut()) from None

    def _error_of(self, call: Call, fault: ConnectionFailed) -> TagferryError:
        if isinstance(fault, ConnectionTimedOut) and not isinstance(fault, ConnectTimedOut):
            message = f"registry {self.name} did not answer in time when asked to {call.task}"
            return Unavailable(message, unresponsive=self.name)
        if isinstance(fault, TransferTooSlow):
            BOUND_REACHED.labels(bound="min_bytes_per_second").inc()
            least = self.endpoint.min_bytes_per_second
            return Unavailable(
                f"registry {self.name} transferred fewer than {least} bytes a second when asked to {call.task} "
                "(min_bytes_per_second of its region)"
            )
        message = f"registry {self.name} could not be reached to {call.task}: {fault}"
        if isinstance(fault, CircuitOpen):
            message = f"registry {self.name} was not asked to {call.task}, because it has stopped responding: {fault}"
        if isinstance(fault, ConnectionRejected):
            return Untrusted(message)
        error = Unavailable(
            message, unresponsive=self.name if isinstance(fault, ConnectionTimedOut | CircuitOpen) else None
        )
        error.is_final = isinstance(fault, CircuitOpen)
        return error

    def _connection_pool(self) -> ConnectionPool:
        if self._pool is None:
            self._pool = ConnectionPool(
                tls=ClientContexts(self.endpoint.tls),
                proxies=self._proxies,
                headers={"User-Agent": f"tagferry/{__version__}", "Accept-Encoding": "identity"},
                connect_timeout=self.endpoint.connect_timeout,
            )
        return self._pool
