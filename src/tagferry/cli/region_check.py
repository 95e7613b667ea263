"""The checks of `tagferry region check`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from tagferry.app import open_accounts, open_regions
from tagferry.cli.exit_codes import FAILED, OK, of_registry_error
from tagferry.diagnosis.advice import advice
from tagferry.errors import NotFound, TagferryError
from tagferry.names import RegionId, RepositoryName, Tag
from tagferry.regions import Region
from tagferry.remote import RemoteStore
from tagferry.remote.check import Sample
from tagferry.settings import Settings
from tagferry.sync.jobs.used_repositories import used_repositories


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a region's check, with a summary to print, and the exit code of a command that has it alone."""

    region: RegionId
    url: str
    summary: str
    exit_code: int = OK

    @property
    def is_ok(self) -> bool:
        """True if the check succeeded."""
        return self.exit_code == OK

    def to_json(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return {"regionID": self.region, "url": self.url, "ok": self.is_ok, "summary": self.summary}


def parse_image(text: str) -> tuple[RepositoryName, Tag | None]:
    """Parse `ORG/REPO` or `ORG/REPO:TAG`; raises InvalidName."""
    name, colon, tag = text.partition(":")
    return RepositoryName(name, field="--repository"), Tag(tag, field="--repository") if colon else None


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
        return Result(
            region.id, region.url, "ok  embedded, so nothing was requested; its server is checked by: tagferry doctor"
        )
    try:
        checked = (
            await store.check(*wanted)
            if wanted is not None
            else await store.check_any(await _used(settings, region.id))
        )
    except TagferryError as error:
        summary = f"{error.message}; {advice(f'[regions.{region.id}]', error)}"
        return Result(region.id, region.url, summary, of_registry_error(error, otherwise=FAILED))
    return Result(region.id, region.url, f"ok  read {checked.request}, as {checked.user}")


async def _used(settings: Settings, region: RegionId) -> Sequence[Sample]:
    """Return repositories that syncs have used, or none if the database, which is not checked here, cannot be read."""
    try:
        async with open_accounts(settings) as accounts:
            return await used_repositories(accounts.database, region)
    except (TagferryError, SQLAlchemyError, OSError):
        return ()
