"""The border of the management API: every request gets an id, a bounded body and an authenticated caller.

This is plain ASGI below the framework, since a signature covers the raw path, query and body, and nothing of a
request may be looked at before it is known who sent it.
"""

import uuid
from collections.abc import Callable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry import signing
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.model import Caller
from tagferry.errors import TagferryError, Unauthenticated
from tagferry.names import RegionId
from tagferry.web import audit
from tagferry.web.bodies import Body, check_head, check_json
from tagferry.web.errors import INTERNAL, INTERNAL_MESSAGE, respond, serialize
from tagferry.web.hosts import RegionHosts

log = structlog.get_logger(__name__)

_SIGNATURE = b"SDK-"
_WITHOUT_CALLER = frozenset({"/healthz", "/readyz", "/openapi.json", "/notifications", "/v3"})
_FROM_PROXIES = frozenset({b"x-forwarded-for", b"forwarded", b"via"})
_READING = frozenset({"GET", "HEAD"})
_PROVES_IN_BODY = ("POST", "/v3/auth/tokens")
_MAY_PROVE_IN_BODY = ("POST", "/v3.0/OS-CREDENTIAL/securitytokens")


class RequestIds:
    """Gives every request an id, in `scope["state"]`, in the response's `X-Request-Id`, and in the logs."""

    def __init__(self, app: ASGIApp, region: RegionId) -> None:
        self._app = app
        self._region = region

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = finished = False

        async def send_with_id(message: Message) -> None:
            nonlocal started, finished
            if message["type"] == "http.response.start":
                started = True
                audit.record(
                    method=scope["method"],
                    path=scope["path"],
                    # If the rest of the body was not valid HTTP, or too long, the client already has this answer.
                    status=scope["state"].get("refused", message["status"]),
                    region=self._region,
                    address=client_address(scope),
                )
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                log.exception("a request failed unexpectedly", method=scope["method"], path=scope["path"])
                if finished:
                    return
                if started:
                    raise
                response = serialize(INTERNAL, [INTERNAL_MESSAGE], scope)
                await response(scope, receive, send_with_id)


class Authentication:
    """Finds out who sent the request, and reads its body up to the limit.

    A body is read only once its sender may be somebody.

    The caller is then in `scope["state"]["caller"]`, unless the body is to tell who it is.

    Args:
        app: what is served.
        authenticator: identifies the caller.
        hosts: the region's, of which a signed one must be.
        body_limit: in bytes.
        exists: whether `app` has anything at a request's path.
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
                    audit.bind_caller(caller.name)
            content = await body.read()
            check_json(content)
        except TagferryError as error:
            await respond(error, scope)(scope, receive, send)
            return
        await self._app(scope, _replay(content, receive), send)

    async def _authenticate(self, scope: Scope, body: Body) -> Caller | None:
        """Return the caller; None if no header identifies one, and the body may, or the request needs none."""
        request = signing.Request(
            method=scope["method"],
            path=_text(scope["raw_path"]),
            query=_text(scope["query_string"]),
            headers=[(_text(name), _text(value)) for name, value in scope["headers"]],
            body=b"",
        )
        if authorization := request.header("authorization"):
            if not _is_text(authorization):
                raise Unauthenticated("Authorization must be text in UTF-8")
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
        raise Unauthenticated("the request has neither an AK/SK signature (Authorization) nor an X-Auth-Token")


def has_management_credentials(scope: Scope) -> bool:
    """Whether a request has what the management API authenticates by, right or wrong."""
    headers = dict(scope["headers"])
    return b"x-auth-token" in headers or headers.get(b"authorization", b"").startswith(_SIGNATURE)


def _asks_for_versions(scope: Scope) -> bool:
    """Return whether this requests the versions of an API, `/`, or one of them, `/v4`.

    Clients of IAM ask for them before they authenticate; those of SWR sign the same request. Where a client takes such
    a path for IAM's address, or one that does not exist, it must learn so without credentials: OpenStack's answer a 401
    by authenticating, for which they ask again.
    """
    return scope["method"] in _READING and scope["path"].count("/") == 1


def _route(scope: Scope) -> tuple[str, str]:
    return scope["method"], scope["path"]


def _text(raw: bytes) -> str:
    """Bytes off the wire as text that holds them all: the SDKs sign text and send it as UTF-8."""
    return raw.decode("utf-8", "surrogateescape")


def _is_text(decoded: str) -> bool:
    """Whether what `_text` gave stands for UTF-8, and not for bytes that no database takes as text."""
    return not any("\ud800" <= character <= "\udfff" for character in decoded)


def _connection(scope: Scope) -> str:
    """A name of the client's connection; empty behind a proxy, whose connections many clients may share."""
    client = scope.get("client")
    if client is None or any(name in _FROM_PROXIES for name, _ in scope["headers"]):
        return ""
    # A client may have the same port at two regions.
    return f"{client[0]} {client[1]} {scope.get('server')}"


def client_address(scope: Scope) -> str:
    """The address that the request comes from; see `tagferry.web.server.proxies`."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand the body on once, and then whatever else comes, as a disconnect."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
