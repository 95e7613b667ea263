"""Authentication for the management API: every request gets an id, a bounded body and an authenticated caller.

This is plain ASGI middleware outside the framework: a signature covers the raw path, query and body, and a request
must not be parsed before its caller is authenticated.
"""

import os
from collections.abc import Awaitable, Callable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry import signing, tracing
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.model import Caller
from tagferry.audit.trail import AuditTrail
from tagferry.errors import TagferryError, Unauthenticated
from tagferry.events import SparseEvents, kind_of
from tagferry.names import RegionId
from tagferry.registry.api.asgi import SEND_FILE
from tagferry.web import audit
from tagferry.web.access_log import AccessLog
from tagferry.web.bodies import Body, check_head, check_json, ignored_fields
from tagferry.web.errors import INTERNAL, INTERNAL_MESSAGE, respond, serialize
from tagferry.web.hosts import RegionHosts
from tagferry.web.spans import begin_span, end_span

sparse = SparseEvents(__name__)

_SIGNATURE = b"SDK-"
_WITHOUT_CALLER = frozenset({"/healthz", "/readyz", "/openapi.json", "/notifications", "/v3"})
_FROM_PROXIES = frozenset({b"x-forwarded-for", b"forwarded", b"via"})
_READING = frozenset({"GET", "HEAD"})
_PROVES_IN_BODY = ("POST", "/v3/auth/tokens")
_MAY_PROVE_IN_BODY = ("POST", "/v3.0/OS-CREDENTIAL/securitytokens")


class RequestIds:
    """Middleware that assigns each request an id, for `scope["state"]`, the header `X-Request-Id` and the logs.

    Args:
        app: the application behind it.
        region: the region whose address received the requests.
        trail: gets the audit records of requests; None if there are only log lines.
        access_log: has an event for the end of each request; by default only for those that failed in the server.
    """

    def __init__(
        self, app: ASGIApp, region: RegionId, trail: AuditTrail | None = None, access_log: AccessLog | None = None
    ) -> None:
        self._app = app
        self._region = region
        self._trail = trail
        self._access_log = access_log or AccessLog("off", region)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = os.urandom(16).hex()
        scope.setdefault("state", {})["request_id"] = request_id
        status, finished = 0, False
        audit.begin()
        traffic = self._access_log.begin(scope, receive)
        if traffic is not None:
            receive = traffic.receive

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status, finished
            if message["type"] == "http.response.start":
                # If the rest of the body was invalid or too long, the protocol has already answered this status.
                status = scope["state"].get("refused", message["status"])
                if traffic is not None:
                    traffic.is_answered = True
                audit.record(
                    scope=scope,
                    status=status,
                    region=self._region,
                    address=client_address(scope),
                    trail=self._trail,
                )
                own = [(b"x-request-id", request_id.encode()), *ignored_fields(scope)]
                message["headers"] = [*message.get("headers", ()), *own]
            else:
                finished = message["type"] == "http.response.body" and not message.get("more_body", False)
                if traffic is not None:
                    traffic.sent += message["count"] if message["type"] == SEND_FILE else len(message.get("body", b""))
            return send(message)

        # Each request has a context of its own, which ends with it.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        span = None if tracing.tracer is None else begin_span(tracing.tracer, scope, self._region)
        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            sparse.error(
                "a request failed unexpectedly",
                key=kind_of(error),
                method=scope["method"],
                path=scope["path"],
                region=self._region,
                exc_info=error,
            )
            if finished:
                return
            if status:
                raise
            response = serialize(INTERNAL, [INTERNAL_MESSAGE], scope)
            await response(scope, receive, send_with_id)
        finally:
            if span is not None:
                end_span(span, status=status, user=audit.caller_name())
            self._access_log.end(scope, traffic, status=status, user=audit.caller_name(), address=client_address(scope))


class Authentication:
    """Middleware that authenticates the caller, and reads the body up to a limit.

    The body is read only after the credentials in the headers were found plausible. The caller is stored in
    `scope["state"]["caller"]`, unless the body authenticates it.

    Args:
        app: the application behind it.
        authenticator: verifies credentials.
        hosts: the hosts that requests to this region may be signed for.
        body_limit: the maximum size of a body in bytes.
        exists: return whether `app` has a route for the path of a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        *,
        hosts: RegionHosts,
        body_limit: int,
        exists: Callable[[Scope], bool],
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._hosts = hosts
        self._body_limit = body_limit
        self._exists = exists

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = Body(scope, receive, self._body_limit)
        try:
            check_head(scope)
            if scope["path"] not in _WITHOUT_CALLER and _route(scope) != _PROVES_IN_BODY:
                caller = await self._authenticate(scope, body)
                if caller is not None:
                    scope["state"]["caller"] = caller
                    audit.bind_caller(caller.name, caller.credential.access_key)
            content = await body.read()
            check_json(content)
        except TagferryError as error:
            await respond(error, scope)(scope, receive, send)
            return
        await self._app(scope, _replay(content, receive), send)

    async def _authenticate(self, scope: Scope, body: Body) -> Caller | None:
        """Return the caller. Return None if no header authenticates it and the body may, or no caller is needed."""
        request = signing.Request(
            method=scope["method"],
            path=_text(scope["raw_path"]),
            query=_text(scope["query_string"]),
            headers=[(_text(name), _text(value)) for name, value in scope["headers"]],
            body=b"",
        )
        if authorization := request.header("authorization"):
            if not _is_text(authorization):
                raise Unauthenticated("the Authorization header must be UTF-8")
            return await self._authenticator.by_signature(
                request,
                authorization,
                address=client_address(scope),
                read_body=body.read,
                check_host=self._hosts.require,
                connection=_connection(scope),
            )
        if token := request.header("x-auth-token"):
            return await self._authenticator.by_token(token)
        if _route(scope) == _MAY_PROVE_IN_BODY or _asks_for_versions(scope) or not self._exists(scope):
            return None
        raise Unauthenticated("missing credentials; sign the request with AK/SK, or send an X-Auth-Token")


def has_management_credentials(scope: Scope) -> bool:
    """Return whether a request carries credentials of the management API, valid or not."""
    headers = dict(scope["headers"])
    return b"x-auth-token" in headers or headers.get(b"authorization", b"").startswith(_SIGNATURE)


def _asks_for_versions(scope: Scope) -> bool:
    """Return whether this requests the versions of an API, `/`, or one version, `/v4`.

    IAM clients request the versions before they authenticate; SWR clients sign the same request. Without credentials, a
    wrong path must not be answered with 401: OpenStack clients respond to that by authenticating, for which they
    request the versions again.
    """
    return scope["method"] in _READING and scope["path"].count("/") == 1


def _route(scope: Scope) -> tuple[str, str]:
    return scope["method"], scope["path"]


def _text(raw: bytes) -> str:
    """Decode bytes without loss; the SDKs sign text and send it as UTF-8."""
    return raw.decode("utf-8", "surrogateescape")


def _is_text(decoded: str) -> bool:
    """Return whether a result of `_text` was valid UTF-8. Databases reject other text."""
    return not any("\ud800" <= character <= "\udfff" for character in decoded)


def _connection(scope: Scope) -> str:
    """Return an identifier of the client's connection, or "" behind a proxy, where clients may share connections."""
    client = scope.get("client")
    if client is None or any(name in _FROM_PROXIES for name, _ in scope["headers"]):
        return ""
    # A client may use the same port for connections to two regions.
    return f"{client[0]} {client[1]} {scope.get('server')}"


def client_address(scope: Scope) -> str:
    """Return the client's address, as `tagferry.web.server.proxies` determined it."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that replays the body once, and then forwards further messages, such as a disconnect."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
