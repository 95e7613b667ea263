"""`tagferry org`: manage organizations."""

import re
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from tagferry.accounts.model import Permission
from tagferry.cli.accounts import accounts_of
from tagferry.cli.event_loop import run
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out
from tagferry.cli.references import parse_organization
from tagferry.errors import Invalid, NotFound
from tagferry.names import Namespace, RegionId
from tagferry.quotas import UNLIMITED, human_size
from tagferry.settings import Settings

app = typer.Typer(
    add_completion=False, help="Manage organizations, their permissions and quotas.", no_args_is_help=True
)

OrganizationArgument = Annotated[str, typer.Argument(metavar="REGION/ORG", help="The region and the organization.")]


class PermissionName(StrEnum):
    """A user's permission in an organization."""

    READ = "read"
    EDIT = "edit"
    MANAGE = "manage"


@app.command()
def create(
    organization: OrganizationArgument,
    config: ConfigFile = DEFAULT_CONFIG,
    owner: Annotated[str, typer.Option(help="The user who manages the organization.")] = "admin",
) -> None:
    """Create an organization."""

    async def work() -> None:
        region, name = _parse(organization, Settings.load(config))
        async with accounts_of(config) as accounts:
            await accounts.organizations.create(await accounts.users.find(owner), region, name)

    run(work())


@app.command("list")
def list_all(
    region: Annotated[str, typer.Argument(metavar="REGION", help="The region's id.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """List the organizations of a region."""

    async def work() -> None:
        table = Table("name", "creator", "created", box=None)
        async with accounts_of(config) as accounts:
            for one in await accounts.organizations.list_all(_configured(RegionId(region), Settings.load(config))):
                table.add_row(one.name, one.creator_name, one.created_at.isoformat(timespec="seconds"))
        out.print(table)

    run(work())


@app.command()
def grant(
    organization: OrganizationArgument,
    user: Annotated[str, typer.Argument(metavar="USER", help="The name of the user.")],
    permission: Annotated[
        PermissionName, typer.Argument(metavar="PERMISSION", help="read: pull; edit: also push; manage: everything.")
    ],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Set a user's permission in an organization. Higher permissions include the lower ones.

    Example: tagferry org grant cn-north-4/team ci edit
    """

    async def work() -> None:
        region, name = _parse(organization, Settings.load(config))
        async with accounts_of(config) as accounts:
            await accounts.organizations.grant(region, name, user, Permission[permission.name])

    run(work())


@app.command()
def quota(
    organization: OrganizationArgument,
    config: ConfigFile = DEFAULT_CONFIG,
    size: Annotated[
        str | None, typer.Option("--bytes", help="Bytes of images: e.g. 100GiB, unlimited or default.")
    ] = None,
    repositories: Annotated[
        str | None, typer.Option(help="Number of repositories: e.g. 500, unlimited or default.")
    ] = None,
    uploads: Annotated[
        str | None, typer.Option(help="Number of open upload sessions: e.g. 50, unlimited or default.")
    ] = None,
) -> None:
    """Show the quotas of an organization, or set the given ones. Servers apply a change within five seconds."""
    given = {"bytes": size, "repositories": repositories, "uploads": uploads}
    changes = {kind: _limit(kind, text) for kind, text in given.items() if text is not None}

    async def work() -> None:
        region, name = _parse(organization, Settings.load(config))
        async with accounts_of(config) as accounts:
            await accounts.quotas.set(region, name, changes)
            limits = await accounts.quotas.limits(region, name)
        for kind in given:
            limit = getattr(limits, kind)
            shown = "unlimited" if limit is None else human_size(limit) if kind == "bytes" else str(limit)
            out.print(f"{kind:<12}  {shown}", soft_wrap=True)

    run(work())


@app.command()
def delete(organization: OrganizationArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Delete an organization and cancel its open jobs. Its images stay in the registry."""

    async def work() -> None:
        region, name = _parse(organization, Settings.load(config))
        async with accounts_of(config) as accounts:
            await accounts.organizations.delete(region, name)

    run(work())


def _parse(text: str, settings: Settings) -> tuple[RegionId, Namespace]:
    region, name = parse_organization(text)
    return _configured(region, settings), name


def _limit(kind: str, text: str) -> int | None:
    if text in ("unlimited", "default"):
        return UNLIMITED if text == "unlimited" else None
    match = re.fullmatch(r"([0-9]{1,15})(?:([KMGT])iB|B)?", text)
    if match is None or (match[2] and kind != "bytes"):
        rule = "must be a size such as 500MiB (B, KiB, MiB, GiB or TiB)" if kind == "bytes" else "must be a number"
        raise Invalid(f"--{kind}", f"{rule}, unlimited or default", text)
    exponent = " KMGT".index(match[2]) if match[2] else 0
    return int(match[1]) << (10 * exponent)


def _configured(region: RegionId, settings: Settings) -> RegionId:
    if region not in settings.regions:
        raise NotFound("region", region, f"the configuration has {', '.join(settings.regions)}")
    return region
