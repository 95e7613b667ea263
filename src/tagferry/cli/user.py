"""`tagferry user`: manage users, who are people or programs."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.accounts.user_rules import random_password
from tagferry.cli.directory import directory_of
from tagferry.cli.event_loop import run
from tagferry.cli.lines import write_json
from tagferry.cli.options import out
from tagferry.cli.site import Site, on_site

app = typer.Typer(add_completion=False, help="Manage users.", no_args_is_help=True)
UserArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the user.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
@on_site
def create(
    site: Site,
    name: UserArgument,
    admin: Annotated[bool, typer.Option(help="Make the user an administrator.")] = False,
    domain: Annotated[
        str | None,
        typer.Option(
            help='The domain (account) of the user; by default "tagferry", or on a server that of the caller.'
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="A description of the user.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create a user, and show its generated password once."""
    new = random_password()

    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.create_user(name, new, domain=domain, is_admin=admin, description=description)

    run(work())
    if as_json:
        return write_json({"name": name, "password": new})
    out.print(f"user name   {name}", soft_wrap=True)
    return out.print(f"password    {new}", soft_wrap=True, markup=False)


@app.command("list")
@on_site
def list_all(site: Site, as_json: AsJson = False) -> None:
    """List the users."""

    async def work() -> None:
        async with directory_of(site) as directory:
            users = await directory.users()
        if as_json:
            return write_json([user.to_json() for user in users])
        table = Table("name", "domain", "administrator", "disabled", "description", box=None)
        for user in users:
            table.add_row(
                *(user.name, user.domain, "yes" if user.is_admin else "", "" if user.enabled else "yes"),
                escape(user.description),
            )
        return out.print(table)

    run(work())


@app.command()
@on_site
def password(site: Site, name: UserArgument, as_json: AsJson = False) -> None:
    """Generate a new password for a user, and show it once."""
    new = random_password()
    _update(site, name, password=new)
    if as_json:
        return write_json({"name": name, "password": new})
    return out.print(f"password    {new}", soft_wrap=True, markup=False)


@app.command()
@on_site
def disable(site: Site, name: UserArgument) -> None:
    """Reject all credentials of a user until it is enabled."""
    _update(site, name, enabled=False)


@app.command()
@on_site
def enable(site: Site, name: UserArgument) -> None:
    """Enable a disabled user."""
    _update(site, name, enabled=True)


@app.command()
@on_site
def promote(site: Site, name: UserArgument) -> None:
    """Make a user an administrator."""
    _update(site, name, is_admin=True)


@app.command()
@on_site
def demote(site: Site, name: UserArgument) -> None:
    """Make an administrator an ordinary user."""
    _update(site, name, is_admin=False)


@app.command()
@on_site
def delete(site: Site, name: UserArgument) -> None:
    """Delete a user with its access keys and tokens."""

    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.delete_user(name)

    run(work())


def _update(site: Site, name: str, **changes: Any) -> None:
    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.update_user(name, **changes)

    run(work())
