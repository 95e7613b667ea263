"""The fuzz targets: for each parser a function that passes it bytes, and asserts what must hold for any bytes.

A target raises nothing for any bytes: the errors that a parser documents are expected, and all others are faults.
Further invariants are asserted.
"""

import asyncio
import itertools
import json
import tempfile
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from tagferry import bounds, signing
from tagferry.automation.retention.rules import RuleSet
from tagferry.errors import Invalid, TagferryError
from tagferry.http import content_coding as coding
from tagferry.http import explanation, lenient_heads, proxies, urls
from tagferry.http.faults import ConnectionFailed, ConnectionRejected
from tagferry.http.response import Response
from tagferry.http.retry_after import retry_after
from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryName, Tag, parse_reference
from tagferry.oci.dates import parse_date
from tagferry.oci.model import Manifest
from tagferry.patterns import Pattern
from tagferry.registry.api import access, asgi, blob_routes, upload_routes
from tagferry.registry.api.exchange import Exchange
from tagferry.remote.transport import credential_helper, tokens
from tagferry.remote.transport import pagination as listing
from tagferry.remote.transport.challenges import parse_challenges, supported_challenge
from tagferry.remote.transport.docker_config import DockerCredentials
from tagferry.remote.transport.scopes import missing_scopes, repository_of
from tagferry.settings import LimitSettings, Settings
from tagferry.web import authorizer as gate
from tagferry.web import notifications, registry_tokens
from tagferry.web.server.connections import Connections
from tagferry.web.server.http_protocol import BoundedProtocol
from tagferry.web.swr import queries, synchronization, tags

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
"""The targets by their names, which are also the folders of their corpora."""

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_DECODED_LIMIT = 1 << 20


def _target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def _text(data: bytes) -> str:
    """Decode bytes to text with everything that JSON can contain, lone surrogates too."""
    return data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace") if _decodes(data) else _latin(data)


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _latin(data: bytes) -> str:
    """Decode bytes to text as headers are read."""
    return data.decode("latin-1")


def _parts(data: bytes, count: int) -> list[bytes]:
    """Split an input into the number of lines that a target takes; the last one has the rest."""
    found = data.split(b"\n", count - 1)
    return found + [b""] * (count - len(found))


@_target
def manifest(data: bytes) -> None:
    """Manifests and indexes, pushed by clients or sent by registries: their media type, a line feed, their bytes."""
    media_type, raw = _parts(data, 2)
    with suppress(TagferryError):
        parsed = Manifest.parse(raw, _latin(media_type) or None)
        assert parsed.raw == raw
        told = json.dumps(parsed.referrer_descriptor.to_json(), ensure_ascii=False)
        told += parsed.artifact_class + repr((parsed.is_attestation, parsed.children, parsed.config, parsed.layers))
        told.encode()
        assert sum(one.size for one in (*parsed.blobs, *parsed.listed)) < 1 << 63


@_target
def names(data: bytes) -> None:
    """Names of everything, in paths and in documents."""
    text = _text(data)
    for kind in (Namespace, Repository, RepositoryName, Tag, Digest, RegionId, parse_reference):
        with suppress(Invalid):
            assert kind(text) == text


@_target
def date(data: bytes) -> None:
    """Dates of configs."""
    moment = parse_date(_text(data))
    assert moment is None or moment.tzinfo is UTC


@_target
def answer(data: bytes) -> None:
    """Responses of registries, in two parts: the number of bytes of the first one, then all bytes."""
    size, rest = (data[0] * 16 if data else 0), data[1:]
    connection = _Connection()
    response = Response(cast("Any", connection), url="http://registry.test/v2/", bodiless=False, idle_timeout=1.0)
    for part in (rest[:size], rest[size:]):
        if part and not connection.fault:
            response.feed(part)
    response.feed_end()
    if response.begun:
        assert 200 <= response.status <= 999
        body = sum(len(chunk) for chunk in response._chunks)
        assert body <= len(rest)
        coding.codings(response.headers)
        retry_after(response.headers, _NOW)


class _Connection:
    """The part of a connection that a response needs."""

    def __init__(self) -> None:
        self.fault: Exception | None = None

    def fail(self, fault: Exception) -> None:
        self.fault = self.fault or fault

    def wake(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass


@_target
def request(data: bytes) -> None:
    """The bytes of clients on a connection, in two parts: the number of bytes of the first one, then all bytes."""
    size, rest = (data[0] * 16 if data else 0), data[1:]
    _LOOP.run_until_complete(_serve(rest[:size], rest[size:]))


async def _serve(*parts: bytes) -> None:
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = Config(app, lifespan="off", log_config=None, ws="none", access_log=False)
    config.loaded_app = app
    slot = Connections(10, 10).take(0, "192.0.2.1")
    assert slot is not None
    protocol = BoundedProtocol(config, ServerState(), slot, LimitSettings())
    client = _Client()
    protocol.connection_made(cast("Any", client))
    for part in parts:
        if part and not client.is_closing():
            protocol.data_received(part)
        for _ in range(4):
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)
    written = b"".join(client.written)
    assert written.startswith(b"HTTP/1.1 ") or not written
    # Each response belongs to one request or refusal.
    answers = written.count(b"HTTP/1.1 ") - written.count(b"HTTP/1.1 100 ")
    assert answers <= len(scopes) + 1
    for scope in scopes:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        assert len(hosts) == 1 or (scope["http_version"] == "1.0" and not hosts)
        assert len(scope["headers"]) <= bounds.HEADERS
        assert sum(map(len, itertools.chain(*scope["headers"]))) + len(scope["raw_path"]) <= bounds.HEAD_BYTES


class _Client(asyncio.Transport):
    """The transport of a connection whose client sends the fuzzer's bytes, and reads every response."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80)})
        self.written: list[bytes] = []
        self._is_closing = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


_LOOP = asyncio.new_event_loop()


@_target
def head(data: bytes) -> None:
    """Heads of responses that only lenient clients can read."""
    normalized = lenient_heads.normalized(data)
    if normalized is not None:
        # A normalized head does not change again, so that it is not read in two ways.
        assert lenient_heads.normalized(normalized) == normalized or len(normalized) <= len(data) + 256
    lenient_heads.may_be_http(data)


@_target
def challenge(data: bytes) -> None:
    """`WWW-Authenticate` headers, one a line."""
    lines = [_latin(line) for line in data.split(b"\n")]
    parse_challenges(lines)
    found = supported_challenge(lines, "https://registry.test/v2/")
    if found is not None:
        assert found.scheme in ("bearer", "basic")
        missing_scopes(found.scopes, found.scopes)
        repository_of(found.scopes)


@_target
def link(data: bytes) -> None:
    """`Link` headers of pages, and their targets."""
    page = cast("Any", SimpleNamespace(headers={"Link": _latin(data)}))
    if listing.has_next_page(page) and (found := listing._next(page)):
        location(found.encode("latin-1"))


@_target
def location(data: bytes) -> None:
    """`Location` headers."""
    try:
        encoded = urls.encoded(_latin(data))
        origin, target = urls.split(encoded)
    except (Invalid, ValueError):
        return
    assert target.startswith("/")
    assert origin[1]
    assert " " not in target
    urls.authority(origin)
    assert "@" not in urls.host_of(urls.redacted(encoded))


@_target
def content_coding(data: bytes) -> None:
    """Bodies with content codings: their names, a line feed, the bytes."""
    named, body = _parts(data, 2)
    applied = [one.strip() for one in _latin(named).lower().split(",")]

    async def pieces() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        yield body[len(body) // 2 :]

    async def read() -> None:
        total = 0
        with suppress(ConnectionFailed, ConnectionRejected):
            async for piece in coding.decoded(pieces(), applied):
                total += len(piece)
                if total > _DECODED_LIMIT:
                    return

    _LOOP.run_until_complete(read())


@_target
def retry(data: bytes) -> None:
    """`Retry-After` headers."""
    seconds = retry_after({"Retry-After": _latin(data)}, _NOW)
    assert seconds is None or 0 <= seconds <= 1e9


@_target
def token_answer(data: bytes) -> None:
    """Responses of token servers."""
    with suppress(TagferryError):
        document = tokens._parse(data, "https://token.test/token?a=b")
        assert 0 < tokens._lifetime(document) < float("inf")


@_target
def error_body(data: bytes) -> None:
    """Bodies of errors, as messages quote them."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = {}
    told = explanation.explain(document if isinstance(document, dict) else {}, data, "text/html")
    line = explanation.one_line(explanation.without_secrets(told))
    assert line.isprintable()
    assert len(line) <= 301


@_target
def helper_output(data: bytes) -> None:
    """Output of credential helpers."""
    with suppress(TagferryError):
        credential_helper._read("test", data)
    credential_helper._readable(data)


@_target
def docker_config(data: bytes) -> None:
    """docker's and podman's configuration."""
    _CONFIG.write_bytes(data)
    with suppress(TagferryError):
        found = DockerCredentials(_CONFIG, "registry.test")
        assert found.origin
        if found._helper() is None:
            _LOOP.run_until_complete(found.find("team/shop"))


_FOLDER = tempfile.TemporaryDirectory(prefix="tagferry-fuzz-")
_CONFIG = Path(_FOLDER.name) / "config.json"


@_target
def settings(data: bytes) -> None:
    """The configuration."""
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return
    with suppress(TagferryError):
        Settings.parse(document)


@_target
def proxy(data: bytes) -> None:
    """Proxies' addresses, and exemptions from them."""
    text = _text(data)
    with suppress(Invalid):
        proxies.parse(text, "proxy")
    exempt = proxies._Exempt(text)
    exempt.covers(("https", "registry.test", 443))
    exempt.covers(("http", "192.0.2.1", 80))


@_target
def signature(data: bytes) -> None:
    """`Authorization` headers with signatures: the header, a line feed, the query, a line feed, the body."""
    header, query, body = _parts(data, 3)
    request = signing.Request(
        method="POST",
        path="/v2/manage/namespaces",
        query=_surrogates(query),
        headers=[("Host", "swr.test"), ("X-Sdk-Date", "20260102T030405Z"), ("X-Other", _surrogates(header))],
        body=body,
    )
    with suppress(TagferryError):
        parsed = signing.Authorization.parse(_surrogates(header))
        signing.verify(request, parsed, "secret", now=_NOW)
        raise AssertionError("a forged signature was accepted")


@_target
def signed(data: bytes) -> None:
    """Requests that are signed here: path, query, a header's value and body. The signature must be right."""
    path, query, value, body = _parts(data, 4)
    request = signing.Request(
        method="PUT",
        path="/" + _surrogates(path),
        query=_surrogates(query),
        headers=[("Host", "swr.test"), ("X-Other", _surrogates(value))],
        body=body,
    )
    try:
        headers = signing.sign(request, "AK", "secret", now=_NOW)
        sent = signing.Request(
            request.method, request.path, request.query, [*request.headers, *headers.items()], request.body
        )
        signing.verify(sent, signing.Authorization.parse(headers["Authorization"]), "secret", now=_NOW)
    except Invalid:
        # More parameters or names than a request may have.
        return


def _surrogates(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@_target
def query_filter(data: bytes) -> None:
    """The management API's filters, pages, markers and preferences."""
    text = _text(data)
    parameters = {"limit": text, "offset": text, "flag": text, "order": text}
    for read in (
        lambda: queries.parse_filter(text),
        lambda: queries.Page.parse(parameters),
        lambda: queries.parse_flag(parameters, "flag"),
        lambda: queries.is_descending(parameters, "order", default=True),
        lambda: synchronization._job_ids(text),
        lambda: synchronization._statuses(text),
        lambda: synchronization._preferred_wait(text),
        lambda: tags._parse_marker(text),
    ):
        with suppress(Invalid):
            read()


@_target
def pattern(data: bytes) -> None:
    """Regular expressions of users: the expression, a line feed, the text to match."""
    expression, text = _parts(data, 2)
    with suppress(Invalid):
        found = Pattern(_text(expression))
        subject = text.decode("utf-8", "replace")
        found.matches(subject)
        found.is_found_in(subject)


@_target
def retention_rules(data: bytes) -> None:
    """Rules of retention policies, with types that the API has already checked."""
    try:
        documents = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(documents, list) or not all(map(_is_rule, documents)):
        return
    with suppress(Invalid):
        RuleSet.parse(documents)


def _is_rule(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("template"), str)
        and isinstance(document.get("params"), dict)
        and isinstance(document.get("tag_selectors"), list)
        and all(
            isinstance(one, dict) and isinstance(one.get("kind"), str) and isinstance(one.get("pattern"), str)
            for one in document["tag_selectors"]
        )
    )


@_target
def notification(data: bytes) -> None:
    """Events of registries at `/notifications`."""
    with suppress(TagferryError):
        events = notifications._events(data)
        list(notifications._pushes(events))
        notifications._deletions(events)


@_target
def token_form(data: bytes) -> None:
    """Queries and forms that request a token of the embedded registry."""
    with suppress(TagferryError):
        asked = registry_tokens._Parameters(asgi.parameters_of(_latin(data)))
        asked.get("service")
        for one in asked.scopes():
            assert access.Scope.parse(str(one)) == one


@_target
def basic_login(data: bytes) -> None:
    """`Authorization` headers at the embedded registry."""
    with suppress(TagferryError):
        gate._parse_basic(_latin(data))


@_target
def blob_range(data: bytes) -> None:
    """`Range` headers: the size of the blob, a line feed, the header."""
    digits, text = _parts(data, 2)
    size = int(digits[:12]) if digits[:12].isdigit() else 1000
    for exchange in _exchanges({"range": _latin(text)}):
        with suppress(TagferryError):
            found = blob_routes._wanted_range(exchange, '"etag"', size)
            assert found is None or 0 <= found[0] <= found[1] < size


@_target
def content_range(data: bytes) -> None:
    """`Content-Range` and `Content-Length` headers of uploads, and `Host`."""
    span, length, host = _parts(data, 3)
    for exchange in _exchanges({"content-range": _latin(span), "content-length": _latin(length)}):
        with suppress(TagferryError):
            start, size = upload_routes._content_range(exchange)
            assert start is None or (start >= 0 and size is not None and size > 0)
    asgi.origin("https", _latin(host))


def _exchanges(headers: dict[str, str]) -> Iterator[Exchange]:
    request = asgi.Request.of(
        {
            "method": "GET",
            "path": "/v2/team/shop/blobs/x",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        },
        cast("Any", asyncio.sleep),
        idle_seconds=1.0,
    )
    yield cast("Exchange", SimpleNamespace(request=request))
