"""The application of a region's console."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tagferry.errors import NotFound, TagferryError
from tagferry.regions import Region
from tagferry.settings import Settings
from tagferry.web.console.assets import assets_as_served
from tagferry.web.console.compression import Compressed
from tagferry.web.console.context import ConsoleServices
from tagferry.web.console.failures import Failures
from tagferry.web.console.pages import (
    accounts,
    audit,
    comparison,
    events,
    images,
    job,
    jobs,
    members,
    organization,
    overview,
    preferences,
    regions,
    repository,
    repository_settings,
    retention,
    rules,
    sharing,
    sign_in,
    synchronize,
    tag,
    triggers,
    workers,
)
from tagferry.web.console.paths import STATIC
from tagferry.web.console.protection import Protection
from tagferry.web.console.renderer import Renderer
from tagferry.web.console.session import SignedIn
from tagferry.web.console.translation import translatable
from tagferry.web.counts import Routed
from tagferry.web.deadline import Deadline
from tagferry.web.server.body_budget import AuthenticatedBodies

_PAGES = (
    overview,
    jobs,
    job,
    events,
    synchronize,
    regions,
    accounts,
    audit,
    workers,
    sign_in,
    preferences,
    members,
    images,
    organization,
    repository,
    repository_settings,
    sharing,
    triggers,
    comparison,
    tag,
    rules,
    retention,
)
_FOREVER = "public, max-age=31536000, immutable"
_METHOD = translatable("the page does not accept this kind of request")
_NO_PAGE = translatable("there is no such page")


def console_app(region: Region, settings: Settings, services: ConsoleServices) -> ASGIApp:
    """Return the console of a served region, for paths below `/console`."""
    routes = [*(route for module in _PAGES for route in module.routes), *images.late_routes]
    renderer = Renderer(region.id, {route.path for route in routes})
    failures = Failures(renderer)

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, TagferryError)  # noqa: S101
        return failures.page(error, request.scope)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        message = _NO_PAGE if error.status_code == 404 else _METHOD
        response = failures.of_status(error.status_code, message, request.scope, step=_CHECK)
        response.headers.update(error.headers or {})
        return response

    async def on_unexpected(request: Request, _error: Exception) -> Response:
        return failures.unexpected(request.scope)

    app = Starlette(
        routes=[Route(f"{STATIC}{{name}}", _static), *routes],
        exception_handlers={TagferryError: on_error, HTTPException: on_http, Exception: on_unexpected},
    )
    app.router.redirect_slashes = False
    app.state.region, app.state.settings, app.state.console = region, settings, services
    app.state.renderer = renderer
    own = settings.regions[region.id]
    pages = Deadline(
        Routed(app),
        settings.limits.response_timeout_seconds,
        has_remote_registry=not own.is_embedded,
        respond=failures.page,
    )
    signed_in = SignedIn(AuthenticatedBodies(pages), services.tokens, services.access, services.regions, failures)
    return Compressed(Protection(signed_in, failures, own.public_url))


_CHECK = translatable("Check the address.")


async def _static(request: Request) -> Response:
    """Return a static file. Browsers keep it forever, since another content has another address."""
    name = request.path_params["name"]
    asset = assets_as_served().get(name)
    if asset is None:
        raise NotFound("file", name)
    return Response(asset.content, media_type=asset.media_type, headers={"Cache-Control": _FOREVER})
