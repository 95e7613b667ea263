"""The application of a region: it routes the management API, IAM and an embedded OCI registry by path."""

import json
from collections.abc import Awaitable
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tagferry import __version__
from tagferry.accounts.authenticate import Authenticator
from tagferry.audit.trail import AuditTrail
from tagferry.automation.watch.watcher import TagWatcher
from tagferry.errors import TagferryError
from tagferry.names import RepositoryName
from tagferry.regions import Region
from tagferry.settings import Settings
from tagferry.web import iam, notifications, swr
from tagferry.web.access_log import AccessLog
from tagferry.web.authentication import Authentication, RequestIds, has_management_credentials
from tagferry.web.authorizer import TOKEN_PATH
from tagferry.web.console.app import console_app
from tagferry.web.console.context import ConsoleServices
from tagferry.web.console.paths import HOME, is_browser_at_root, is_console_path
from tagferry.web.counts import RequestCounts
from tagferry.web.deadline import Deadline
from tagferry.web.errors import (
    BAD_PARAMETER,
    INTERNAL,
    INTERNAL_MESSAGE,
    METHOD_NOT_ALLOWED,
    NO_SUCH_API,
    RESPONSES,
    ErrorCode,
    from_validation,
    is_iam_path,
    respond,
    serialize,
)
from tagferry.web.hosts import RegionHosts
from tagferry.web.iam.context import IamServices
from tagferry.web.json_response import JSONResponse
from tagferry.web.openapi import Management
from tagferry.web.placeholder_rewriter import PlaceholderRewriter
from tagferry.web.probes import Readiness, add_probes
from tagferry.web.server.admission import Admission, Load
from tagferry.web.server.body_budget import AnonymousBodies, AuthenticatedBodies, BodyBudget
from tagferry.web.server.header_case import HeaderCase
from tagferry.web.server.proxies import TrustedProxies
from tagferry.web.swr.context import SwrServices
from tagferry.web.swr.enterprise import enterprise_refusal, is_enterprise_path

_SHOWN = 500
"""Characters of a path that an error quotes."""


@dataclass(frozen=True, slots=True)
class ApiServices:
    """The services behind the APIs of all regions of this process; each API gets only those that it uses.

    Attributes:
        swr: the services of the management API.
        iam: those of IAM.
        console: those of the console.
        watch: gets the notifications of registries.
        readiness: for the probes.
        authenticator: authenticates the requests to the management API and to IAM.
        load: admits requests to all APIs.
        body_budget: limits the bodies of callers that are not authenticated yet.
        trail: gets the audit records; None if the database keeps none.
    """

    swr: SwrServices
    iam: IamServices
    console: ConsoleServices
    watch: TagWatcher
    readiness: Readiness
    authenticator: Authenticator
    load: Load
    body_budget: BodyBudget
    trail: AuditTrail | None


class ReplaceableApp:
    """The application of a listener, which a reload replaces. Requests in progress end with the former one.

    Attributes:
        current: answers new requests.
    """

    def __init__(self, current: ASGIApp) -> None:
        self.current = current

    # Not a coroutine: one more would cost time in each step of every request.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.current(scope, receive, send)


def region_app(region: Region, settings: Settings, services: ApiServices, registry: ASGIApp | None) -> ASGIApp:
    """Return the ASGI application of a served region. `registry` is its embedded registry, if it has one."""
    management = _management(region, settings, services)
    is_embedded = settings.regions[region.id].is_embedded
    authenticated: ASGIApp = Authentication(
        AuthenticatedBodies(
            Deadline(management, settings.limits.response_timeout_seconds, has_remote_registry=not is_embedded)
        ),
        services.authenticator,
        hosts=RegionHosts(region.id, settings.regions),
        body_limit=settings.limits.body_bytes,
        exists=lambda scope: bool(management.methods_at(scope)),
    )
    if placeholder := settings.regions[region.id].placeholder_repository:
        authenticated = PlaceholderRewriter(authenticated, RepositoryName(placeholder))
    registry = registry or _registry_elsewhere(region)
    by_path = _ByPath(
        management=RequestCounts(HeaderCase(AnonymousBodies(authenticated, services.body_budget))),
        console=RequestCounts(AnonymousBodies(console_app(region, settings, services.console), services.body_budget)),
        registry=registry,
        tokens=RequestCounts(AnonymousBodies(registry, services.body_budget), TOKEN_PATH),
    )
    served = RequestIds(by_path, region.id, services.trail, AccessLog(settings.access_log, region.id))
    return TrustedProxies(Admission(served, services.load), settings.trusted_proxies)


class _ByPath:
    def __init__(self, *, management: ASGIApp, console: ASGIApp, registry: ASGIApp, tokens: ASGIApp) -> None:
        self._management = management
        self._console = console
        self._registry = registry
        self._tokens = tokens

    # Not a coroutine: one more would cost time in each step of every request.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            if scope["path"] == TOKEN_PATH:
                return self._tokens(scope, receive, send)
            if _is_for_the_registry(scope):
                return self._registry(scope, receive, send)
            if is_console_path(scope["path"]):
                return self._console(scope, receive, send)
            if is_browser_at_root(scope) and not has_management_credentials(scope):
                return RedirectResponse(HOME, status_code=303, headers={"Vary": "Accept"})(scope, receive, send)
            scope = {**scope, "path": _without_slashes(scope["path"])}
        return self._management(scope, receive, send)


def _without_slashes(path: str) -> str:
    """Return the path to route. Like Keystone, IAM ignores trailing slashes from the URLs in clients' settings."""
    return path.rstrip("/") or "/" if is_iam_path(path) or path.startswith("//") else path


def _is_for_the_registry(scope: Scope) -> bool:
    path = scope["path"]
    if path == "/v2":
        # This is SWR's version, or a registry's base path without its slash. The credentials decide.
        return not has_management_credentials(scope)
    return path.startswith("/v2/") and not (path.startswith("/v2/manage/") or is_enterprise_path(path))


def _registry_elsewhere(region: Region) -> ASGIApp:
    """Return the application under /v2/ of a region with a remote registry; it answers with the registry's address."""
    error = {"code": "UNSUPPORTED", "message": f"the registry of {region.id} is at {region.url}", "detail": None}
    body = json.dumps({"errors": [error]}).encode()
    return Response(body, status_code=404, media_type="application/json")


def _management(region: Region, settings: Settings, services: ApiServices) -> Management:
    app = Management(
        has_token_service=settings.regions[region.id].is_embedded,
        title="tagferry",
        version=__version__,
        summary="Synchronize container images between regions. Compatible with SWR.",
        responses=RESPONSES,
        strict_content_type=False,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.region, app.state.settings = region, settings
    app.state.swr, app.state.iam, app.state.watch = services.swr, services.iam, services.watch
    add_probes(app, services.readiness)
    # Routes are searched in this order, and most requests are for SWR's.
    swr.add_routes(app)
    iam.add_routes(app)
    app.include_router(notifications.router)
    swr.add_versions(app)
    app.add_exception_handler(TagferryError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)
    return app


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TagferryError)  # noqa: S101
    return respond(error, request.scope)


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first, *others = from_validation(error)
    return respond(first, request.scope, others)


async def _on_unexpected(request: Request, _error: Exception) -> JSONResponse:
    """Answer with an internal error. The framework re-raises the error, and `RequestIds` logs it."""
    return serialize(INTERNAL, [INTERNAL_MESSAGE], request.scope)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    path = request.url.path
    route = f"{request.method} {path if len(path) <= _SHOWN else f'{path[:_SHOWN]}…'}"
    if error.status_code == 404 and is_enterprise_path(request.url.path):
        return respond(enterprise_refusal(route), request.scope)
    known = {
        400: (BAD_PARAMETER, f"the body of {route} must be JSON in UTF-8"),
        404: (NO_SUCH_API, f"there is no API {route}{_hint(request.url.path)}"),
    }
    if error.status_code == 405:
        methods = ", ".join(request.app.methods_at(request.scope))
        message = f"there is no API {route}; the path allows {methods}"
        return serialize(METHOD_NOT_ALLOWED, [message], request.scope, {"Allow": methods})
    code, message = known.get(error.status_code, (ErrorCode(error.status_code, NO_SUCH_API.code), str(error.detail)))
    return serialize(code, [message], request.scope, dict(error.headers or {}))


def _hint(path: str) -> str:
    """Return a hint for a path with an empty name, which SDKs send if the caller did not set it."""
    if "//" not in path:
        return ""
    return "; a name in the path is empty: set the organization and the repository in the request"
