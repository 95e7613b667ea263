"""The registry API: the OCI distribution-spec 1.1 and Docker's catalog, as an ASGI application over a disk store."""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tagferry.errors import InvalidName, LoginThrottled, NotFound, TagferryError, Unauthenticated
from tagferry.events import SparseEvents, kind_of
from tagferry.names import RepositoryName
from tagferry.registry.api import asgi, blob_routes, manifest_routes, upload_routes
from tagferry.registry.api.access import CATALOG, Action, Authorizer, Scope
from tagferry.registry.api.asgi import SEND_FILE, ClientDisconnected, Message, Receive, Request, Response, Send
from tagferry.registry.api.counts import UNKNOWN, Operation, RegistryCounts
from tagferry.registry.api.errors import error_detail, error_document, error_headers, status_and_code
from tagferry.registry.api.exchange import Exchange, Handler, OnDelete, OnPull, OnPush
from tagferry.registry.errors import NotAllowed
from tagferry.registry.storage.store import DiskStore

log = SparseEvents(__name__)


async def _ping(_exchange: Exchange) -> Response:
    return Response(200, {"Content-Type": "application/json"}, b"{}")


@dataclass(frozen=True, slots=True)
class _Route:
    """The pattern of a path, its name in metrics, and for each method the required action and the handler."""

    pattern: re.Pattern[str]
    name: str
    methods: Mapping[str, tuple[Action | None, Handler]]


_NAME = r"/v2/(?P<name>.+)"
_CATALOG_PATH = "/v2/_catalog"
_ROUTES = (
    _Route(
        re.compile(_NAME + r"/manifests/(?P<reference>[^/]+)"),
        "manifest",
        {
            "GET": (Action.PULL, manifest_routes.get_manifest),
            "HEAD": (Action.PULL, manifest_routes.get_manifest),
            "PUT": (Action.PUSH, manifest_routes.put_manifest),
            "DELETE": (Action.DELETE, manifest_routes.delete_manifest),
        },
    ),
    _Route(re.compile(r"/v2/?"), "base", {"GET": (None, _ping), "HEAD": (None, _ping)}),
    _Route(re.compile(_CATALOG_PATH), "catalog", {"GET": (None, manifest_routes.list_catalog)}),
    _Route(re.compile(_NAME + r"/tags/list"), "tags", {"GET": (Action.PULL, manifest_routes.list_tags)}),
    _Route(
        re.compile(_NAME + r"/referrers/(?P<reference>[^/]+)"),
        "referrers",
        {"GET": (Action.PULL, manifest_routes.list_referrers)},
    ),
    _Route(re.compile(_NAME + r"/blobs/uploads/?"), "upload", {"POST": (Action.PUSH, upload_routes.start_upload)}),
    _Route(
        re.compile(_NAME + r"/blobs/uploads/(?P<reference>[^/]+)"),
        "upload",
        {
            "GET": (Action.PUSH, upload_routes.get_upload),
            "PATCH": (Action.PUSH, upload_routes.append_to_upload),
            "PUT": (Action.PUSH, upload_routes.finish_upload),
            "DELETE": (Action.PUSH, upload_routes.cancel_upload),
        },
    ),
    _Route(
        re.compile(_NAME + r"/blobs/(?P<reference>[^/]+)"),
        "blob",
        {
            "GET": (Action.PULL, blob_routes.get_blob),
            "HEAD": (Action.PULL, blob_routes.get_blob),
            "DELETE": (Action.DELETE, blob_routes.delete_blob),
        },
    ),
)
_NO_REPOSITORY = RepositoryName("none")


class RegistryApp:
    """The ASGI application for `/v2/…`; the scope has to contain the whole path."""

    def __init__(
        self,
        store: DiskStore,
        authorizer: Authorizer,
        *,
        on_push: OnPush | None = None,
        on_delete: OnDelete | None = None,
        on_pull: OnPull | None = None,
        idle_seconds: float = 60.0,
    ) -> None:
        """Serve a store.

        Args:
            store: the store to serve; the caller closes it.
            authorizer: authenticates and authorizes each request.
            on_push: awaited after each stored manifest; its errors are logged, and do not fail the push.
            on_delete: awaited after each deletion of a tag or manifest; its errors are logged.
            on_pull: called before a manifest is sent, except for a HEAD request.
            idle_seconds: how long a client may pause within a body before it gets a 408.
        """
        self._store = store
        self._authorizer = authorizer
        self._on_push = on_push
        self._on_delete = on_delete
        self._on_pull = on_pull
        self._idle_seconds = idle_seconds
        self._counts = RegistryCounts(store.name)

    async def __call__(self, scope: asgi.Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the registry does not speak {scope['type']}")
        request = Request.of(scope, receive, idle_seconds=self._idle_seconds, received=self._counts.received)
        answer = _VersionedSend(send, self._counts)
        with suppress(ClientDisconnected):
            try:
                response = await self._respond(request, answer)
                await response.send(answer, receive, method=request.method, sends_files=asgi.sends_files(scope))
            except ClientDisconnected:
                raise
            except Exception as error:
                if answer.started:
                    if not isinstance(error, TagferryError):
                        raise
                    # The client notices the missing end of the body.
                    log.warning("aborted a response", path=request.path, reason=error.message)
                    return
                response = error_response(error, scope, partial(self._challenge, request))
                await response.send(answer, receive, method=request.method)

    async def _respond(self, request: Request, answer: "_VersionedSend") -> Response:
        request.check_head()
        route, parts = _find_route(request.path)
        if request.method not in route.methods:
            raise NotAllowed(request.method, tuple(route.methods))
        answer.operation = request.method, route.name
        action, handler = route.methods[request.method]
        repository = RepositoryName(parts["name"]) if "name" in parts else None
        if repository is not None and action is Action.PUSH:
            # SWR's names allow less than the distribution-spec's, and everything pushed here is managed by them.
            _ = repository.namespace, repository.repository
        actions = frozenset({action}) if action else frozenset()
        caller = await self._authorizer.authorize(request.login, actions, repository)
        exchange = Exchange(
            request=request,
            store=self._store,
            authorizer=self._authorizer,
            on_push=self._on_push,
            on_delete=self._on_delete,
            on_pull=self._on_pull,
            caller=caller,
            repository=repository or _NO_REPOSITORY,
            reference=parts.get("reference", ""),
        )
        return await handler(exchange)

    def _challenge(self, request: Request, error: Unauthenticated) -> str:
        return self._authorizer.challenge(request.login, _needed_scopes(request), error)


def error_response(error: Exception, scope: asgi.Scope, challenge: Callable[[Unauthenticated], str]) -> Response:
    """Return the response to a failed request.

    Args:
        error: the cause; unexpected errors are logged, and their details withheld from the client.
        scope: the request's ASGI scope; marked if the login was throttled.
        challenge: returns the WWW-Authenticate header of a 401 response.
    """
    if not isinstance(error, TagferryError):
        log.error("a registry request failed unexpectedly", key=kind_of(error), exc_info=error)
        error = TagferryError("internal error; details are in the server's log")
    status, code = status_and_code(error)
    headers = {"Content-Type": "application/json"} | error_headers(error)
    if isinstance(error, LoginThrottled):
        asgi.mark_as_shed(scope)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = challenge(error)
    return Response(status, headers, error_document(code, error.message, error_detail(error)))


class _VersionedSend:
    """Forwards ASGI messages, adds the registry's API version header, and records and counts the response.

    Attributes:
        started: whether the response has started.
        operation: the method and the name of the route, once it is known.
    """

    __slots__ = ("_counts", "_send", "operation", "started")

    def __init__(self, send: Send, counts: RegistryCounts) -> None:
        self._send = send
        self._counts = counts
        self.started = False
        self.operation: Operation = UNKNOWN

    def __call__(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == "http.response.body":
            self._counts.sent.value += len(message.get("body", b""))
        elif kind == SEND_FILE:
            return self._send_file(message)
        elif kind == "http.response.start":
            self.started = True
            self._counts.answered(self.operation, message["status"])
            message["headers"] = [(b"docker-distribution-api-version", b"registry/2.0"), *message["headers"]]
        return self._send(message)

    async def _send_file(self, message: Message) -> None:
        await self._send(message)
        self._counts.sent.inc(message["count"])


def _find_route(path: str) -> tuple[_Route, dict[str, str]]:
    for route in _ROUTES:
        match = route.pattern.fullmatch(path)
        if match:
            return route, match.groupdict()
    raise NotFound("path", path)


def _needed_scopes(request: Request) -> list[Scope]:
    """Return the scopes that a request needs."""
    if request.path == _CATALOG_PATH:
        return [CATALOG]
    route, parts = _find_route(request.path)
    action, _ = route.methods[request.method]
    if action is None:
        return []
    # A push also checks which content exists.
    actions = {Action.PULL, Action.PUSH} if action is Action.PUSH else {action}
    needed = [Scope.of(RepositoryName(parts["name"]), actions)]
    if action is Action.PUSH and "mount" in request.query:
        try:
            needed.append(Scope.of(RepositoryName(request.query["from"]), {Action.PULL}))
        except (KeyError, InvalidName):
            return needed
    return needed
