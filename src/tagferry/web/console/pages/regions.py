"""The regions with the health of their registries."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from tagferry.health.model import RegionHealth
from tagferry.names import RegionId
from tagferry.regions import Region
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import RemoteStore
from tagferry.remote.transport.throttle import Load
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.states import HEALTH_STATES, PAUSED, UNKNOWN, State
from tagferry.web.console.translation import translatable

_PATH = "/console/regions"
_SOON = timedelta(days=14)

_CAPABILITIES = {
    "lists_referrers": translatable("Lists signatures and SBOMs (referrers API)"),
    "mounts_from_itself": translatable("Mounts a blob from its own repository"),
    "refuses_wrong_bytes": translatable("Rejects content that does not match its digest"),
    "whole_limit": translatable("Rejected a blob in one request, of bytes"),
    "part_limit": translatable("Maximum size of an upload part, bytes"),
    "shortest_part": translatable("Minimum size of an upload part, bytes"),
    "requests_a_second": translatable("Limits requests per second to"),
    "accepted_classes": translatable("Accepts manifests of the kinds"),
    "refused_classes": translatable("Rejected manifests of the kinds"),
    "unavailable": translatable("Unsupported requests"),
}


@dataclass(frozen=True, slots=True)
class RegionRow:
    """A region in the list.

    Attributes:
        state: the state of its registry.
        is_served: whether a process of this configuration serves it.
        expires_soon: whether its certificate expires within two weeks.
        paused_since: since when its jobs are paused in this process; None if they are not.
    """

    region: Region
    is_embedded: bool
    is_served: bool
    state: State
    health: RegionHealth | None
    expires_soon: bool
    paused_since: datetime | None


@dataclass(frozen=True, slots=True)
class RegionsPage:
    """The view of the list of regions."""

    regions: tuple[RegionRow, ...]
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Capability:
    """A capability of a registry: its meaning, which templates translate, and a value.

    Attributes:
        is_supported: the value of those that are a question; None for others.
        lines: the value of others.
    """

    meaning: str
    is_supported: bool | None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegionPage:
    """The view of a region.

    Attributes:
        is_administrator: whether the caller sees details of the installation, and may check the region.
        load: the requests of this process; None for an embedded registry, or for callers who may not see it.
        capabilities: what is known of a remote registry.
        commands: the same by the command line and the API.
    """

    row: RegionRow
    is_administrator: bool
    load: Load | None
    capabilities: tuple[Capability, ...]
    commands: tuple[Command, ...]


async def show_all(context: PageContext) -> Response:
    """Show all regions."""
    health = await context.services.health.health()
    rows = tuple(_row(context, region, health.get(region.id)) for region in context.services.regions)
    commands = (
        Command.of("CLI", "tagferry", "region", "list", "--endpoint", context.base_url),
        Command("API", "GET /v2/manage/regions"),
    )
    return context.render("regions/list.html", RegionsPage(rows, commands))


async def show(context: PageContext) -> Response:
    """Show a region."""
    region = context.services.regions[RegionId(context.path_parameters["region"])]
    health = (await context.services.health.health()).get(region.id)
    store, is_administrator = region.store, context.caller.is_admin
    is_shown = is_administrator and isinstance(store, RemoteStore)
    known = (await store.capabilities()).to_json() if is_shown and isinstance(store, RemoteStore) else {}
    base = ("tagferry", "region", "show", region.id, "--endpoint", context.base_url)
    commands = [Command.of("CLI", *base), Command("API", f"GET /v2/manage/regions/{region.id}")]
    if is_administrator:
        commands += [Command.of("CLI", *base, "--check"), Command("API", f"POST /v2/manage/regions/{region.id}/check")]
    view = RegionPage(
        row=_row(context, region, health),
        is_administrator=is_administrator,
        load=store.load if is_shown and isinstance(store, RemoteStore) else None,
        capabilities=tuple(_capability(text, known[name]) for name, text in _CAPABILITIES.items() if name in known),
        commands=tuple(commands),
    )
    return context.render("regions/region.html", view)


async def check(context: PageContext) -> Response:
    """Check a region now."""
    region = context.services.regions[RegionId(context.path_parameters["region"])]
    with context.waiting:
        await context.services.health.check_now(context.caller, region.id)
    return context.redirect(f"{_PATH}/{region.id}", notice=translatable("The region was checked."))


def _row(context: PageContext, region: Region, health: RegionHealth | None) -> RegionRow:
    pause = context.services.sync.paused_regions.get(region.id)
    expires_at = health.certificate_expires_at if health is not None else None
    state = UNKNOWN if health is None else HEALTH_STATES[health.state.value]
    return RegionRow(
        region=region,
        is_embedded=isinstance(region.store, DiskStore),
        is_served=bool(context.settings.regions[region.id].listen),
        state=PAUSED if pause is not None and health is not None and state.tone == "good" else state,
        health=health,
        expires_soon=expires_at is not None and expires_at - datetime.now(UTC) < _SOON,
        paused_since=None if pause is None else pause.since,
    )


def _capability(meaning: str, value: Any) -> Capability:
    match value:
        case bool():
            return Capability(meaning, value)
        case list():
            return Capability(meaning, None, tuple(map(str, value)))
        case dict():
            return Capability(meaning, None, tuple(f"{name}: {reason}" for name, reason in value.items()))
    return Capability(meaning, None, (str(value),))


routes = (
    page(_PATH, show_all),
    page(f"{_PATH}/{{region}}", show),
    page(f"{_PATH}/{{region}}/check", check, methods=("POST",)),
)
