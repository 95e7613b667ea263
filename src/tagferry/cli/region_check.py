"""The checks of `tagferry region check`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from tagferry.app import open_accounts, open_regions
from tagferry.errors import NotFound, Refused, TagferryError, Unavailable
from tagferry.names import RegionId, RepositoryName, Tag
from tagferry.regions import Region
from tagferry.remote import RemoteStore
from tagferry.remote.check import Sample
from tagferry.remote.transport.credential_helper import HelperFailed
from tagferry.settings import Settings
from tagferry.sync.jobs.used_repositories import used_repositories


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a region's check, with a summary to print."""

    region: RegionId
    url: str
    summary: str
    is_ok: bool


def parse_image(text: str) -> tuple[RepositoryName, Tag | None]:
    """Parse `ORG/REPO` or `ORG/REPO:TAG`; raises InvalidName."""
    name, colon, tag = text.partition(":")
    return RepositoryName(name, field="--repository"), Tag(tag) if colon else None


async def check_regions(settings: Settings, names: Collection[str], wanted: Sample | None) -> list[Result]:
    """Check the named regions, or all; raises NotFound for a region that is not configured."""
    for name in names:
        if name not in settings.regions:
            raise NotFound("region", name, f"the configuration has {', '.join(settings.regions)}")
    async with open_regions(settings) as regions:
        return [await _check(settings, region, wanted) for region in regions if not names or region.id in names]


async def _check(settings: Settings, region: Region, wanted: Sample | None) -> Result:
    store = region.store
    if not isinstance(store, RemoteStore):
        return Result(region.id, region.url, "ok", is_ok=True)
    try:
        checked = (
            await store.check(*wanted)
            if wanted is not None
            else await store.check_any(await _used(settings, region.id))
        )
    except TagferryError as error:
        return Result(region.id, region.url, f"{error.message}; {_advice(region.id, error)}", is_ok=False)
    return Result(region.id, region.url, f"ok  read {checked.request}, as {checked.user}", is_ok=True)


async def _used(settings: Settings, region: RegionId) -> Sequence[Sample]:
    """Return repositories that syncs have used, or none if the database, which is not checked here, cannot be read."""
    try:
        async with open_accounts(settings) as accounts:
            return await used_repositories(accounts.database, region)
    except (TagferryError, SQLAlchemyError, OSError):
        return ()


def _advice(region: RegionId, error: TagferryError) -> str:
    section = f"[regions.{region}]"
    match error:
        case HelperFailed():
            return f"log in again with the helper's program, or check docker_config in {section}"
        case _ if "certificate" in error.message.lower():
            return f"check ca_file, client_certificate and client_key in {section}"
        case NotFound(kind="resource"):
            return f"check registry in {section}: it is not the address of a registry"
        case NotFound():
            return "name an existing repository that the user can read, with --repository ORG/REPO"
        case Refused():
            return f"check username and password, or docker_config, in {section}"
        case Unavailable():
            return f"check registry, ca_file and the proxy in {section}, and that the registry is running"
    return f"check registry in {section}"
