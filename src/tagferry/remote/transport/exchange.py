"""One exchange with a registry, its token server or its storage: connection, redirects, response, errors.

Authorization and retries are added by `authorization` and `requests`.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from tagferry import __version__, bounds, tracing
from tagferry.errors import AnswerTooLarge, Invalid, Refused, TagferryError, Unavailable, Untrusted
from tagferry.http.address_policy import ANY_ADDRESS, AddressForbidden, AddressPolicy, Zone, zone_of, zone_of_host
from tagferry.http.connection import Stream
from tagferry.http.content_coding import codings, decoded
from tagferry.http.early_sockets import EarlySockets
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
from tagferry.http.urls import Origin, host_of, origin_of
from tagferry.metrics import BOUND_REACHED
from tagferry.remote.transport.authorization import MAX_REDIRECTS, REDIRECTS, ROOT
from tagferry.remote.transport.call import Call
from tagferry.remote.transport.circuit_breaker import CircuitBreakers
from tagferry.remote.transport.counts import RegistryCounts
from tagferry.remote.transport.credential_hosts import HostList
from tagferry.remote.transport.endpoint import Endpoint
from tagferry.remote.transport.observed import Observed
from tagferry.remote.transport.rate import HostLimiters
from tagferry.remote.transport.registry_urls import RegistryUrls
from tagferry.remote.transport.response import Answer, LargeAnswerSlot, failure
from tagferry.remote.transport.spans import describe_response, request_span
from tagferry.remote.transport.throttle import Throttle, record_response
from tagferry.tls import ClientContexts

MIN_COMMIT_RATE = 20e6
"""Minimum rate, in bytes per second, at which a registry is expected to verify and store a whole blob."""
_READING = ("GET", "HEAD")


class StreamRedirected(Unavailable):
    """A stream was redirected after some of it had been sent: send it again to `url`, from its beginning."""

    def __init__(self, message: str, *, method: str, url: str) -> None:
        super().__init__(message)
        self.method = method
        self.url = url


class Exchange:
    """Sends single requests for one registry; connections belong to the event loop of the first request.

    Args:
        endpoint: the registry and its connection settings.
        urls: the registry's URLs.
        throttle: the load that the registry accepts.
        limiters: the rate limiters of other hosts.
        max_wait: seconds; a longer pause that a host asks for is ignored.
        counts: counts the requests.
        with_hint: adds to an error which permission its request needs.
        early: connections that have begun already.

    Attributes:
        circuits: the circuit breakers of all hosts.
        round_trip: seconds until the registry's fastest response began; None before the first response.
        observed: what the registry's responses have shown about its health.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        urls: RegistryUrls,
        throttle: Throttle,
        limiters: HostLimiters,
        max_wait: float,
        counts: RegistryCounts,
        with_hint: Callable[[Call, TagferryError], TagferryError],
        early: EarlySockets | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._name = endpoint.name
        self._urls = urls
        self._throttle = throttle
        self._host_limiters = limiters
        self._max_wait = max_wait
        self._counts = counts
        self._with_hint = with_hint
        self._early = early
        self._expects_continue, self._may_expect_continue = False, True
        self._token_hosts, self._redirect_hosts = HostList(endpoint.token_hosts), HostList(endpoint.redirect_hosts)
        self._zone: Zone | None = None
        self._proxies = Proxies(endpoint.proxy)
        self._large_answers = asyncio.Semaphore(bounds.LARGE_RESPONSES)
        self._pool: ConnectionPool | None = None
        self.circuits = CircuitBreakers()
        self.round_trip: float | None = None
        self.observed = Observed()

    @property
    def connections(self) -> tuple[int, int]:
        """The number of connections in use, and of idle ones."""
        return (0, 0) if self._pool is None else self._pool.connections

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def send_with_redirects(self, call: Call, url: str, authorization: str | None) -> Response:
        """Send a request and follow redirects with the same method and body, as Go's client does for 307 and 308.

        After 301 and 302, Go's client turns a POST into a GET without a body, which opens no upload; here, a write
        keeps its method. 303 names another resource as the response, which is requested by GET.

        Raises:
            StreamRedirected: the body is a stream that has begun.
        """
        first = url
        for _ in range(MAX_REDIRECTS + 1):
            if not call.is_content and self._urls.is_https and url.startswith("http:"):
                raise Refused(
                    f"registry {self._name} redirected to http://{host_of(url)}, without TLS, when asked to {call.task}"
                )
            # Storage with signed URLs refuses a foreign Authorization, and must not receive it. Nor may it trigger an
            # authorized request by redirecting back, so an authorization that was dropped once stays dropped.
            authorization = authorization if self._urls.is_same(first, url) else None
            secret = {"Authorization": authorization} if authorization else {}
            response = await self.send(call, url, {**call.headers, **secret})
            if self._may_send_again(call, response):
                response.close()
                continue
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or not (call.redirects or call.writes) or not location:
                return response
            response.close()
            url = self._urls.resolve(location, response.url)
            call = self._redirected_call(call, response.status, url)
        raise Unavailable(f"registry {self._name} redirected more than {MAX_REDIRECTS} times when asked to {call.task}")

    def _redirected_call(self, call: Call, status: int, url: str) -> Call:
        """Return the request to send to the target of a redirect."""
        if status == 303 and call.writes:
            return call._replace(method="GET", headers={}, body=b"", redirects=True)
        self._expects_continue = self._expects_continue or call.writes
        if isinstance(call.body, Stream) and call.body.has_begun:
            message = f"registry {self._name} redirected to {host_of(url)} in the middle of the request to {call.task}"
            raise StreamRedirected(message, method=call.method, url=url)
        return call

    def _may_send_again(self, call: Call, response: Response) -> bool:
        """Return whether a server refused a stream only because of `Expect`, and do not send that header again."""
        body = call.body
        if not isinstance(body, Stream) or response.status != 417 or body.has_begun:
            return False
        self._may_expect_continue = False
        return True

    async def send(self, call: Call, url: str, headers: Mapping[str, str]) -> Response:
        """Send a single request; as a span of its trace, which ends with the head of the response."""
        if tracing.tracer is None:
            return await self._send(call, url, headers)
        with request_span(tracing.tracer, self._name, call, url) as span:
            if tracing.tracer.propagates and self._urls.is_own(url):
                headers = {**headers, **tracing.tracer.headers()}
            response = await self._send(call, url, headers)
            describe_response(span, response.status)
        return response

    async def _send(self, call: Call, url: str, headers: Mapping[str, str]) -> Response:
        body = call.body
        if isinstance(body, Stream):
            body.expects_continue = self._expects_continue and self._may_expect_continue
        idle_timeout = max(self._endpoint.read_timeout, call.bytes_to_verify / MIN_COMMIT_RATE)
        origin = origin_of(url)
        is_own = self._urls.owns(origin)
        limiter = None if is_own else self._host_limiters.of(origin)
        if limiter is not None:
            await limiter.acquire()
        started = time.monotonic()
        try:
            with self.circuits.request(origin, is_needed=limiter is None or call.is_for_token):
                response = await self._connection_pool().send(
                    call.method,
                    url,
                    headers,
                    body,
                    idle_timeout=idle_timeout,
                    min_rate=self._endpoint.min_bytes_per_second,
                    with_certificate=self._may_send_certificate(call, url),
                    address_policy=ANY_ADDRESS if is_own else self._address_policy(origin),
                )
        except AddressForbidden as fault:
            raise self._address_forbidden(call, url, fault) from None
        except ConnectionFailed as fault:
            if not isinstance(fault, CircuitOpen):
                self._counts.failed(call.method)
            error = self.error_of(call, fault)
            if isinstance(error, Unavailable) and self.circuits.is_open(origin):
                # The caller decides whether to keep waiting, since it may hold resources that others need.
                error.is_final = True
            raise error from fault
        self._counts.answered(call.method, response.status, response.latency)
        if isinstance(body, Stream) and body.got_continue is False:
            self._may_expect_continue = False
        if is_own and self._zone is not Zone.PUBLIC:
            self._update_zone(origin, response)
        if limiter is None:
            self._throttle.record_response(response.status, response.headers)
        else:
            record_response(limiter, response.status, response.headers, max_wait=self._max_wait)
        if is_own and not isinstance(body, Stream):
            self.round_trip = min(self.round_trip or math.inf, time.monotonic() - started)
            if call.method in _READING:
                self.observed.record(response)
        return response

    def _update_zone(self, origin: Origin, response: Response) -> None:
        """Record the registry's zone; a registry that was at a public address once stays public."""
        if self._proxies.find(origin) is not None or response.peer is None:
            zone = zone_of_host(self._urls.origin[1]) or Zone.PUBLIC
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
            f"registry {self._name} named {host_of(url)}, which has a {fault.zone} address, when asked to "
            f'{call.task}; to allow it, add "{host}" to {setting} of its region'
        )

    def _may_send_certificate(self, call: Call, url: str) -> bool:
        """Return whether to present the client's certificate: to the registry's host and to its token server."""
        has_one = self._endpoint.client_certificate is not None
        if not has_one or urlsplit(url).hostname == self._urls.host:
            return has_one
        return call.is_for_token and self._endpoint.may_get_credentials(url)

    async def read(self, call: Call, response: Response) -> Answer:
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
                f"the response of registry {self._name} to {call.task}", f"must have at most {limit} bytes"
            )
        return answer

    async def _body(
        self, call: Call, response: Response, limit: int, slot: LargeAnswerSlot, *, is_needed: bool
    ) -> bytearray:
        """Read a body up to slightly more than the limit; a large one only under a slot."""
        body, most_small = bytearray(), min(limit, bounds.LARGE_RESPONSE_BYTES)
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
                raise self.error_of(call, fault) from fault
        finally:
            response.close()
        return body

    def _is_web_page(self, call: Call, response: Response) -> bool:
        """Return whether a write or a login was redirected to a web page, whose status says nothing."""
        is_html = response.status == 200 and response.headers.get("Content-Type", "").startswith("text/html")
        return is_html and (call.writes or call.url == ROOT) and response.url != self._urls.resolve(call.url)

    def failure(self, call: Call, answer: Answer) -> TagferryError:
        """Return the error for a response, for callers that accept its status and then cannot handle it."""
        is_trusted = call.is_for_token and self._endpoint.may_get_credentials(answer.url)
        if answer.url and not (is_trusted or self._urls.is_own(answer.url)):
            # The error text of another host may include what users here should not read, so only its status is used.
            answer = Answer(answer.status, answer.headers, url=answer.url, slot=answer.slot)
        return self._with_hint(call, failure(self.display_name(answer.url), call.task, answer))

    def display_name(self, url: str) -> str:
        """Return the registry's name in messages, with the proxy that may have sent the response."""
        try:
            proxy = self._proxies.find(origin_of(url)) if url.startswith("http:") else None
        except Invalid:
            proxy = None
        return self._name if proxy is None else f"{self._name} (through proxy {proxy})"

    def error_of(self, call: Call, fault: ConnectionFailed) -> TagferryError:
        if isinstance(fault, ConnectionTimedOut) and not isinstance(fault, ConnectTimedOut):
            message = f"registry {self._name} did not answer in time when asked to {call.task}"
            return Unavailable(message, unresponsive=self._name)
        if isinstance(fault, TransferTooSlow):
            BOUND_REACHED.labels(bound="min_bytes_per_second").inc()
            least = self._endpoint.min_bytes_per_second
            return Unavailable(
                f"registry {self._name} transferred fewer than {least} bytes a second when asked to {call.task} "
                "(min_bytes_per_second of its region)"
            )
        message = f"registry {self._name} could not be reached to {call.task}: {fault}"
        if isinstance(fault, CircuitOpen):
            message = f"registry {self._name} was not asked to {call.task}, because it has stopped responding: {fault}"
        if isinstance(fault, ConnectionRejected):
            return Untrusted(message)
        error = Unavailable(
            message, unresponsive=self._name if isinstance(fault, ConnectionTimedOut | CircuitOpen) else None
        )
        error.is_final = isinstance(fault, CircuitOpen)
        return error

    def _connection_pool(self) -> ConnectionPool:
        if self._pool is None:
            self._pool = ConnectionPool(
                tls=ClientContexts(self._endpoint.tls),
                proxies=self._proxies,
                headers={"User-Agent": f"tagferry/{__version__}", "Accept-Encoding": "identity"},
                connect_timeout=self._endpoint.connect_timeout,
                early=self._early,
            )
        return self._pool
