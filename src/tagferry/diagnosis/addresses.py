"""The addresses that this process listens on: free, or used by a tagferry server, which then reports its state."""

import asyncio
import errno
import json
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tagferry.diagnosis.model import Component, Finding, Findings, merged
from tagferry.http.explanation import one_line
from tagferry.http.faults import ConnectionFailed
from tagferry.http.pool import ConnectionPool
from tagferry.http.proxies import NONE, Proxies
from tagferry.settings import Settings
from tagferry.tls import ClientContexts, ClientTls

_LARGEST_ANSWER = 256 * 1024
_OK = "ok"
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared only


@dataclass(frozen=True, slots=True)
class _Address:
    text: str
    purpose: str
    region: str
    scheme: str
    path: str

    @property
    def host(self) -> str:
        return self.text.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.text.rpartition(":")[2])

    @property
    def url(self) -> str:
        """The URL of the page that shows whether it is tagferry that listens."""
        host = _EVERY_ADDRESS.get(self.host, self.host)
        literal = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{literal}:{self.port}{self.path}"


async def check_addresses(
    settings: Settings, *, seconds: float, served: Collection[str] | None = None, known: Collection[str] = ()
) -> list[Finding]:
    """Check all addresses at once, each within a time. What several of them report is one finding.

    Args:
        settings: the configuration.
        seconds: the time for each.
        served: the regions that recorded processes of the database serve; None if that is unknown.
        known: components of `/readyz` about which there is a finding already.
    """
    results = await asyncio.gather(*(_check(address, seconds, served, known) for address in _addresses(settings)))
    return merged(finding for found in results for finding in found)


def _addresses(settings: Settings) -> Iterator[_Address]:
    for name, region in settings.served_regions.items():
        scheme = "https" if region.tls_certificate is not None else "http"
        yield _Address(region.listen or "", f"region {name}", name, scheme, "/readyz")
    if settings.metrics_listen:
        yield _Address(settings.metrics_listen, "metrics", "", "http", "/metrics")


async def _check(
    address: _Address, seconds: float, served: Collection[str] | None, known: Collection[str]
) -> list[Finding]:
    findings = Findings(Component.ADDRESS, address.text)
    try:
        async with asyncio.timeout(seconds):
            status, body = await _get(address.url, seconds)
    except TimeoutError:
        findings.problem(
            f"something listens, but did not answer GET {address.path} within {seconds:g} s",
            f"if it is tagferry, restart it and see its log; otherwise choose another address for {address.purpose}",
        )
    except ConnectionFailed as failure:
        _check_free(findings, address, str(failure))
    else:
        _report(findings, address, status, body, is_ours=served is None or address.region in served, known=known)
    return findings.all


async def _get(url: str, seconds: float) -> tuple[int, bytes]:
    connections = ConnectionPool(
        # The certificate is checked elsewhere, and may not be for this address.
        tls=ClientContexts(ClientTls(ca_only=True, skip_verify=True)),
        proxies=Proxies(NONE),
        headers={"Connection": "close", "Accept-Encoding": "identity"},
        connect_timeout=seconds,
    )
    try:
        response = await connections.send("GET", url, {}, idle_timeout=seconds)
        body = bytearray()
        async for chunk in response.chunks():
            body += chunk
            if len(body) > _LARGEST_ANSWER:
                break
        response.close()
        return response.status, bytes(body)
    finally:
        await connections.close()


def _check_free(findings: Findings, address: _Address, reason: str) -> None:
    """Report whether this process could listen."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        setting = f"choose another address for {address.purpose}"
        if error.errno == errno.EADDRINUSE:
            findings.problem(
                f"used by another program, which does not answer as tagferry ({one_line(reason, 120)})",
                f"stop that program, or {setting}",
            )
        elif error.errno == errno.EACCES:
            findings.problem(
                "this user may not listen on it",
                f"{setting} with a port from 1024, or permit it: setcap cap_net_bind_service=+ep",
            )
        else:
            why = os.strerror(error.errno).lower() if error.errno else str(error)
            findings.problem(f"cannot be listened on: {why}", f"{setting}, one of this machine")
    else:
        findings.ok(f"free: no server for {address.purpose} runs here")


def _report(
    findings: Findings, address: _Address, status: int, body: bytes, *, is_ours: bool, known: Collection[str]
) -> None:
    """Report the state that a server shows."""
    if address.path == "/metrics":
        if (status == 200 and b"tagferry_" in body) or status == 401:
            findings.ok("serves metrics")
        else:
            _foreign(findings, address, status)
        return
    document: Any = None
    with suppress(ValueError):
        document = json.loads(body)
    components = document.get("components") if isinstance(document, dict) else None
    if not isinstance(components, dict):
        _foreign(findings, address, status)
        return
    if not is_ours:
        findings.problem(
            f"used by a tagferry server of another installation: no process of this database serves {address.purpose}",
            f"stop that server, choose another address for {address.purpose}, or correct data_dir and database_url",
        )
        return
    add = findings.problem if status == 503 else findings.warning
    by_state: dict[str, list[str]] = {}
    for name, state in components.items():
        if state != _OK and name not in known:
            by_state.setdefault(one_line(str(state)), []).append(one_line(str(name), 100))
    for state, names in by_state.items():
        add(
            f"the server reports {', '.join(names)}: {state}",
            "see the server's log; a background task is restarted by itself, other components need what the "
            "findings about the database and the disks say",
        )
    for region in document.get("paused") or ():
        findings.warning(
            f"the server has paused region {one_line(str(region), 64)}, whose registry does not answer; its jobs wait",
            "see the finding about this registry; the region is resumed by itself once it answers",
        )
    if findings.is_clean:
        is_ready = all(state == _OK for state in components.values())
        findings.ok(f"a tagferry server for {address.purpose} {'is ready' if is_ready else 'runs here'}")


def _foreign(findings: Findings, address: _Address, status: int) -> None:
    findings.problem(
        f"used by another program, which answers GET {address.path} with {status}",
        f"stop that program, or choose another address for {address.purpose}",
    )
