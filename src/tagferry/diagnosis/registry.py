"""One remote registry, step by step: address, proxy, connection, certificate, credentials, and what a sync reads."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tagferry.addresses import parse_address
from tagferry.app.regions import endpoint_of
from tagferry.diagnosis.advice import advice
from tagferry.diagnosis.certificates import Certificate, parse_der
from tagferry.diagnosis.model import Component, Finding, Findings
from tagferry.errors import Invalid, TagferryError
from tagferry.health.model import HealthState, RegionHealth
from tagferry.http.connection import Connection
from tagferry.http.dialing import Route, dial
from tagferry.http.explanation import one_line, without_secrets
from tagferry.http.faults import NO_TLS, ConnectionFailed, reason
from tagferry.http.proxies import NONE, Proxies
from tagferry.http.urls import origin_of
from tagferry.names import RegionId
from tagferry.remote import Endpoint, RemoteStore, Retry
from tagferry.remote.capabilities import MOUNT, Capabilities
from tagferry.remote.check import Sample
from tagferry.remote.transport.response import RateLimited
from tagferry.settings import RegionSettings
from tagferry.tls import ClientContexts, ClientTls

_SLOW_SECONDS = 1.0
_SECOND_LOOK_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOfRegistry:
    """Facts about a registry from the database.

    Attributes:
        samples: repositories that syncs have used.
        capabilities: what the registry has shown to support.
        health: the last check by the server.
    """

    samples: Sequence[Sample] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)
    health: RegionHealth | None = None


@dataclass(slots=True)
class RegistryFacts:
    """The findings about a registry, and how far its clock is ahead of this machine's, if known."""

    findings: list[Finding]
    clock_difference: timedelta | None = None


async def check_registry(
    region: RegionId, settings: RegionSettings, known: KnownOfRegistry, *, seconds: float
) -> RegistryFacts:
    """Check a registry with requests that only read, within a time."""
    findings = Findings(Component.REGISTRY, region)
    try:
        endpoint = endpoint_of(region, settings)
        probe = _Probe(region, endpoint, known, findings)
    except Invalid as error:
        findings.problem(error.message, f"correct it in [regions.{region}], or in the environment")
        return RegistryFacts(findings.all)
    try:
        async with asyncio.timeout(seconds):
            await probe.run()
    except TimeoutError:
        findings.problem(
            f"{settings.registry}: {probe.step} took longer than {seconds:g} s",
            "check that the registry runs and that no firewall drops packets, or give it more time with --timeout",
        )
    finally:
        await probe.close()
    return RegistryFacts(findings.all, probe.clock_difference)


class _Probe:
    """The steps of a check, each of which needs the one before.

    Args:
        region: the region.
        endpoint: its registry.
        known: what the database knows about it.
        findings: gets the results.

    Attributes:
        step: what is being done, for the message about a timeout.
    """

    def __init__(self, region: RegionId, endpoint: Endpoint, known: KnownOfRegistry, findings: Findings) -> None:
        self._section = f"[regions.{region}]"
        self._endpoint = endpoint
        self._known = known
        self._findings = findings
        self._origin = origin_of(endpoint.url)
        self._proxy = Proxies(endpoint.proxy).find(self._origin)
        # One request, without retries and without waits that a registry asks for: the check reports them.
        self._store = RemoteStore(endpoint, retry=Retry(attempts=1, max_wait=0.0))
        self._good: list[str] = []
        self.step = "starting"

    @property
    def clock_difference(self) -> timedelta | None:
        """How far the registry's clock is ahead of this machine's."""
        return self._store.observed.clock_difference

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()

    async def run(self) -> None:
        """Run all steps, or as many as succeed."""
        if await self._resolve() and await self._connect() and await self._authenticate() and await self._read():
            self._compare_with_server()
            if self._findings.is_clean:
                self._findings.ok("; ".join([*self._good, *self._capabilities()]))

    async def _resolve(self) -> bool:
        """Resolve the host to which this machine connects."""
        _, host, port = self._proxy.origin if self._proxy is not None else self._origin
        self.step = f"resolving {host}"
        try:
            found = 1 if parse_address(host) is not None else await _number_of_addresses(host, port)
        except (OSError, UnicodeError) as error:
            fix = "its name servers" if self._proxy is None else "the proxy"
            setting = f"registry in {self._section}" if self._proxy is None else self._proxy_setting()
            self._findings.problem(
                f"{'proxy ' if self._proxy is not None else ''}{host}: {reason(error)}",
                f"correct {setting}, or {fix} of this machine",
            )
            return False
        way = f"through proxy {self._proxy}" if self._proxy is not None else f"directly{self._exemption()}"
        self._good.append(f"{self._endpoint.url} reached {way}{f', {found} addresses' if found > 1 else ''}")
        return True

    async def _connect(self) -> bool:
        """Connect, and look at the certificate."""
        self.step = f"connecting to {self._endpoint.url}"
        route = Route(self._origin, self._proxy, self._endpoint.client_certificate is not None)
        started = asyncio.get_running_loop().time()
        try:
            connection = await dial(route, _connection, ClientContexts(self._endpoint.tls))
        except ConnectionFailed as failure:
            await self._report(failure, route)
            return False
        taken = asyncio.get_running_loop().time() - started
        certificate = parse_der(connection.peer_certificate)
        connection.abort()
        if taken > _SLOW_SECONDS:
            self._findings.warning(
                f"connecting takes {taken:.1f} s",
                "check the network and the name servers between here and the registry",
            )
        if certificate is not None and certificate.expires_soon():
            self._findings.warning(
                f"its certificate expires at {certificate.expires_at:%Y-%m-%d %H:%M} UTC",
                "renew the registry's certificate",
            )
        elif certificate is not None:
            self._good.append(f"certificate of {certificate.issuer} until {certificate.expires_at:%Y-%m-%d}")
        return True

    async def _report(self, failure: ConnectionFailed, route: Route) -> None:
        """Report why no connection was possible, with the certificate that was refused."""
        message, cause = str(failure), failure.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            presented = await _presented(route)
            if presented is not None:
                message += (
                    f"; the certificate is for {presented.issued_for}, issued by {presented.issuer}, and valid until "
                    f"{presented.expires_at:%Y-%m-%d %H:%M} UTC"
                )
            fix = _certificate_fix(cause, presented, self._section)
        elif NO_TLS in message:
            fix = f"correct the port in registry of {self._section}, or begin it with http:// if it has no TLS"
        elif self._proxy is not None:
            fix = (
                f'correct {self._proxy_setting()}, or add {self._origin[1]} to NO_PROXY or set proxy = "none" in '
                f"{self._section} if the registry is to be reached directly"
            )
        else:
            fix = (
                f"check registry in {self._section}, that the registry runs, and that a firewall permits the connection"
            )
        self._findings.problem(message, fix)

    async def _authenticate(self) -> bool:
        """Authenticate as the configured user."""
        self.step = "authenticating"
        try:
            await self._store.probe()
        except TagferryError as error:
            self._refused(error)
            return False
        return True

    async def _read(self) -> bool:
        """Read what a sync reads."""
        self.step = "reading a manifest"
        try:
            checked = await self._store.check_any(self._known.samples)
        except TagferryError as error:
            self._refused(error)
            return False
        self._good.append(f"read {checked.request.partition(' (')[0]}, as {checked.user}")
        return True

    def _refused(self, error: TagferryError) -> None:
        message = one_line(without_secrets(error.message))
        if isinstance(error, RateLimited):
            self._findings.warning(
                f"{message}; it asks to wait for {error.retry_after or 0:.0f} s",
                "wait; jobs wait as well and continue by themselves; if it lasts, lower max_connections or set "
                f"max_tags_per_minute in {self._section}, or ask for a higher limit",
            )
        else:
            self._findings.problem(message, advice(self._section, error))

    def _compare_with_server(self) -> None:
        """Compare with the last check by the server, whose environment may be another one."""
        health = self._known.health
        if health is None or health.state is HealthState.OK:
            return
        self._findings.warning(
            f"answers here, but the last check by the server at {health.checked_at:%Y-%m-%d %H:%M} UTC failed: "
            f"{health.reason}",
            "run doctor again in a minute; if it lasts, compare the server's environment with this one: proxy "
            "variables, name servers and firewall",
        )

    def _capabilities(self) -> list[str]:
        """Return what is known of the registry's optional features."""
        known, found = self._known.capabilities, []
        if known.lists_referrers is not None:
            found.append(f"referrers API: {'yes' if known.lists_referrers else 'no'}")
        if MOUNT in known.unavailable:
            found.append("mounts: no")
        if known.requests_a_second is not None:
            found.append(f"limited to {known.requests_a_second:g} requests per second")
        return found

    def _exemption(self) -> str:
        """Return a note if `NO_PROXY` is the reason why no proxy is used."""
        others = {name: value for name, value in os.environ.items() if name.upper() != "NO_PROXY"}
        is_exempt = Proxies(self._endpoint.proxy, others).find(self._origin) is not None
        return " (NO_PROXY)" if is_exempt else ""

    def _proxy_setting(self) -> str:
        if self._endpoint.proxy not in (None, NONE):
            return f"proxy in {self._section}"
        return f"{self._origin[0].upper()}_PROXY or ALL_PROXY in the environment"


def _certificate_fix(error: ssl.SSLCertVerificationError, presented: Certificate | None, section: str) -> str:
    if presented is not None and presented.is_expired():
        return "renew the registry's certificate"
    if error.verify_code in (62, 64):
        return f"use a name of the certificate in registry of {section}, or get a certificate for this one"
    return f"set ca_file in {section} to the authority's certificate, and check the clock of this machine"


def _connection() -> Connection:
    return Connection(on_lost=lambda _: None, on_free=lambda _: None)


async def _presented(route: Route) -> Certificate | None:
    """Return the certificate that was refused, read over a second connection on which nothing is sent."""
    with suppress(ConnectionFailed, TimeoutError):
        async with asyncio.timeout(_SECOND_LOOK_SECONDS):
            contexts = ClientContexts(ClientTls(ca_only=True, skip_verify=True))
            connection = await dial(route._replace(with_certificate=False), _connection, contexts)
        certificate = parse_der(connection.peer_certificate)
        connection.abort()
        return certificate
    return None


async def _number_of_addresses(host: str, port: int) -> int:
    """Resolve a host in a thread of its own: a slow name server must not delay the others, nor the program's end."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[int] = loop.create_future()

    def settle(result: Any) -> None:
        if answer.done():
            return
        if isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def resolve() -> None:
        result: Any
        try:
            result = len({found[4][0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        except (OSError, UnicodeError) as error:
            result = error
        with suppress(RuntimeError):  # the loop may have been closed meanwhile
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=resolve, name=f"resolving {host}", daemon=True).start()
    return await answer
