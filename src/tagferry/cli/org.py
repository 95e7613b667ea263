"""`tagferry org`: organizations of the regions."""

import re
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from tagferry.accounts.model import Permission
from tagferry.cli.accounts import accounts_of
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out, run
from tagferry.errors import Invalid, NotFound
from tagferry.names import Namespace, RegionId
from tagferry.quotas import UNLIMITED, human_size
from tagferry.settings import Settings

app = typer.Typer(help="Organizations.", no_args_is_help=True)

Place = Annotated[str, typer.Argument(metavar="REGION/ORG")]


class PermissionName(StrEnum):
    """What a user may do in an organization."""

    READ = "read"
    EDIT = "edit"
    MANAGE = "manage"


@app.command()
def create(place: Place, config: ConfigFile = DEFAULT_CONFIG, owner: str = "admin") -> None:
    """Create an organization, which its owner manages."""

    async def work() -> None:
        region, name = _parse(place, Settings.load(config))
        async with accounts_of(config) as accounts:
            await accounts.organizations.create(await accounts.users.find(owner), region, name)

    run(work())


@app.command("list")
def list_all(region: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List a region's organizations."""

    async def work() -> None:
        table = Table("name", "creator", "created", box=None)
        async with accounts_of(config) as accounts:
            for one in await accounts.organizations.list_all(_known(RegionId(region), Settings.load(config))):
                table.add_row(one.name, one.creator_name, one.created_at.isoformat(timespec="seconds"))
        out.print(table)

    run(work())


@app.command()
def grant(place: Place, user: str, permission: PermissionName, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Set what a user may do in an organization; a higher permission includes the lower ones."""

    async def work() -> None:
        region, name = _parse(place, Settings.load(config))
        async with accounts_of(config) as accounts:
            await accounts.organizations.grant(region, name, user, Permission[permission.name])

    run(work())


@app.command()
def quota(
    place: Place,
    config: ConfigFile = DEFAULT_CONFIG,
    size: Annotated[
        str | None, typer.Option("--bytes", help="Bytes, such as 100GiB, or unlimited, or default.")
    ] = None,
    repositories: Annotated[str | None, typer.Option(help="A number, or unlimited, or default.")] = None,
    uploads: Annotated[
        str | None, typer.Option(help="Open upload sessions: a number, or unlimited, or default.")
    ] = None,
) -> None:
    """Show an organization's quotas, or set those given; servers apply a change within five seconds."""
    given = {"bytes": size, "repositories": repositories, "uploads": uploads}
    said = {kind: _limit(kind, text) for kind, text in given.items() if text is not None}

    async def work() -> None:
        region, name = _parse(place, Settings.load(config))
        async with accounts_of(config) as accounts:
            await accounts.quotas.set(region, name, said)
            limits = await accounts.quotas.limits(region, name)
        for kind in given:
            limit = getattr(limits, kind)
            shown = "unlimited" if limit is None else human_size(limit) if kind == "bytes" else str(limit)
            out.print(f"{kind:<12}  {shown}", soft_wrap=True)

    run(work())


@app.command()
def delete(place: Place, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Delete an organization's record, and cancel its open jobs; its images stay in the registry."""

    async def work() -> None:
        region, name = _parse(place, Settings.load(config))
        async with accounts_of(config) as accounts:
            await accounts.organizations.delete(region, name)

    run(work())


def _parse(place: str, settings: Settings) -> tuple[RegionId, Namespace]:
    region, _, name = place.partition("/")
    return _known(RegionId(region), settings), Namespace(name, field="ORG")


def _limit(kind: str, text: str) -> int | None:
    if text in ("unlimited", "default"):
        return UNLIMITED if text == "unlimited" else None
    match = re.fullmatch(r"([0-9]{1,15})(?:([KMGT])iB|B)?", text)
    if match is None or (match[2] and kind != "bytes"):
        rule = (
            "must be a number of bytes, as 500MiB (B, KiB, MiB, GiB or TiB)" if kind == "bytes" else "must be a number"
        )
        raise Invalid(f"--{kind}", f"{rule}, or unlimited or default", text)
    exponent = " KMGT".index(match[2]) if match[2] else 0
    return int(match[1]) << (10 * exponent)


def _known(region: RegionId, settings: Settings) -> RegionId:
    if region not in settings.regions:
        raise NotFound("region", region, f"the configuration knows {', '.join(settings.regions)}")
    return region
