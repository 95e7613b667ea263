"""`tagferry org`: manage organizations."""

import re
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from tagferry.cli.directory import PERMISSIONS, Quotas, directory_of
from tagferry.cli.event_loop import run
from tagferry.cli.lines import write_json
from tagferry.cli.options import out
from tagferry.cli.references import parse_organization
from tagferry.cli.site import Site, on_site
from tagferry.cli.times import show_time
from tagferry.errors import Invalid
from tagferry.names import RegionId
from tagferry.quotas import UNLIMITED, human_size

app = typer.Typer(
    add_completion=False, help="Manage organizations, their permissions and quotas.", no_args_is_help=True
)

OrganizationArgument = Annotated[str, typer.Argument(metavar="REGION/ORG", help="The region and the organization.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The name of the user.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class PermissionName(StrEnum):
    """A user's permission in an organization."""

    READ = "read"
    EDIT = "edit"
    MANAGE = "manage"


@app.command()
@on_site
def create(
    site: Site,
    organization: OrganizationArgument,
    owner: Annotated[
        str | None,
        typer.Option(help='The user who manages the organization; by default "admin", or on a server the caller.'),
    ] = None,
) -> None:
    """Create an organization."""
    region, name = parse_organization(organization)

    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.create_organization(region, name, owner=owner)

    run(work())


@app.command("list")
@on_site
def list_all(
    site: Site,
    region: Annotated[str, typer.Argument(metavar="REGION", help="The region's id.")],
    as_json: AsJson = False,
) -> None:
    """List the organizations of a region."""
    wanted = RegionId(region, field="REGION")

    async def work() -> None:
        async with directory_of(site) as directory:
            listed = await directory.organizations(wanted)
        if as_json:
            return write_json([one.to_json() for one in listed])
        table = Table("name", "creator", "created", box=None)
        for one in listed:
            table.add_row(one.name, one.creator, show_time(one.created_at))
        return out.print(table)

    run(work())


@app.command()
@on_site
def grants(site: Site, organization: OrganizationArgument, as_json: AsJson = False) -> None:
    """List the users with a permission in an organization."""
    region, name = parse_organization(organization)
    names = {number: permission for permission, number in PERMISSIONS.items()}

    async def work() -> None:
        async with directory_of(site) as directory:
            listed = [(user, names.get(number, str(number))) for user, number in await directory.grants(region, name)]
        if as_json:
            return write_json([{"user": user, "permission": permission} for user, permission in listed])
        table = Table("user", "permission", box=None)
        for row in listed:
            table.add_row(*row)
        return out.print(table)

    run(work())


@app.command()
@on_site
def grant(
    site: Site,
    organization: OrganizationArgument,
    user: UserArgument,
    permission: Annotated[
        PermissionName, typer.Argument(metavar="PERMISSION", help="read: pull; edit: also push; manage: everything.")
    ],
) -> None:
    """Set a user's permission in an organization. Higher permissions include the lower ones.

    Example: tagferry org grant cn-north-4/team ci edit
    """
    region, name = parse_organization(organization)

    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.grant(region, name, user, PERMISSIONS[permission])

    run(work())


@app.command()
@on_site
def revoke(site: Site, organization: OrganizationArgument, user: UserArgument) -> None:
    """Revoke a user's permission in an organization. Permissions granted on single repositories remain."""
    region, name = parse_organization(organization)

    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.revoke(region, name, user)

    run(work())


@app.command()
@on_site
def quota(
    site: Site,
    organization: OrganizationArgument,
    size: Annotated[
        str | None, typer.Option("--bytes", help="Bytes of images: e.g. 100GiB, unlimited or default.")
    ] = None,
    repositories: Annotated[
        str | None, typer.Option(help="Number of repositories: e.g. 500, unlimited or default.")
    ] = None,
    uploads: Annotated[
        str | None, typer.Option(help="Number of open upload sessions: e.g. 50, unlimited or default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the quotas of an organization, or set the given ones. Servers apply a change within five seconds.

    They can be set only where the configuration is.
    """
    region, name = parse_organization(organization)
    given = {"bytes": size, "repositories": repositories, "uploads": uploads}
    changes = {kind: _limit(kind, text) for kind, text in given.items() if text is not None}

    async def work() -> Quotas:
        async with directory_of(site) as directory:
            return await directory.quotas(region, name, changes)

    limits = run(work())
    if as_json:
        return write_json(limits)
    for kind in given:
        limit = limits.get(kind)
        shown = "unlimited" if limit is None else human_size(limit) if kind == "bytes" else str(limit)
        out.print(f"{kind:<12}  {shown}", soft_wrap=True)
    return None


@app.command()
@on_site
def delete(site: Site, organization: OrganizationArgument) -> None:
    """Delete an organization and cancel its open jobs. Its images stay in the registry.

    A server deletes only an organization without images.
    """
    region, name = parse_organization(organization)

    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.delete_organization(region, name)

    run(work())


def _limit(kind: str, text: str) -> int | None:
    if text in ("unlimited", "default"):
        return UNLIMITED if text == "unlimited" else None
    match = re.fullmatch(r"([0-9]{1,15})(?:([KMGT])iB|B)?", text)
    if match is None or (match[2] and kind != "bytes"):
        rule = "must be a size such as 500MiB (B, KiB, MiB, GiB or TiB)" if kind == "bytes" else "must be a number"
        raise Invalid(f"--{kind}", f"{rule}, unlimited or default", text)
    exponent = " KMGT".index(match[2]) if match[2] else 0
    return int(match[1]) << (10 * exponent)
