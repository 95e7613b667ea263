"""`tagferry user`: manage users, who are people or programs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.accounts.user_rules import random_password
from tagferry.app import DEFAULT_DOMAIN
from tagferry.cli.accounts import accounts_of
from tagferry.cli.event_loop import run
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out

app = typer.Typer(add_completion=False, help="Manage users.", no_args_is_help=True)
UserArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the user.")]


@app.command()
def create(
    name: UserArgument,
    config: ConfigFile = DEFAULT_CONFIG,
    admin: Annotated[bool, typer.Option(help="Make the user an administrator.")] = False,
    domain: Annotated[str, typer.Option(help="The domain (account) of the user.")] = DEFAULT_DOMAIN,
    description: Annotated[str, typer.Option(help="A description of the user.")] = "",
) -> None:
    """Create a user, and show its generated password once."""

    async def work() -> None:
        password = random_password()
        async with accounts_of(config) as accounts:
            await accounts.users.create(name, password, domain=domain, is_admin=admin, description=description)
        out.print(f"user name   {name}", soft_wrap=True)
        out.print(f"password    {password}", soft_wrap=True, markup=False)

    run(work())


@app.command("list")
def list_all(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the users."""

    async def work() -> None:
        table = Table("name", "domain", "administrator", "disabled", "description", box=None)
        async with accounts_of(config) as accounts:
            for user in await accounts.users.list_users():
                table.add_row(
                    *(user.name, user.domain_name, "yes" if user.is_admin else "", "" if user.enabled else "yes"),
                    escape(user.description),
                )
        out.print(table)

    run(work())


@app.command()
def password(name: UserArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Generate a new password for a user, and show it once."""
    new = random_password()
    run(_update(config, name, password=new))
    out.print(f"password    {new}", soft_wrap=True, markup=False)


@app.command()
def disable(name: UserArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Reject all credentials of a user until it is enabled."""
    run(_update(config, name, enabled=False))


@app.command()
def enable(name: UserArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Enable a disabled user."""
    run(_update(config, name, enabled=True))


@app.command()
def promote(name: UserArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Make a user an administrator."""
    run(_update(config, name, is_admin=True))


@app.command()
def demote(name: UserArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Make an administrator an ordinary user."""
    run(_update(config, name, is_admin=False))


@app.command()
def delete(name: UserArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Delete a user with its access keys and tokens."""

    async def work() -> None:
        async with accounts_of(config) as accounts:
            user = await accounts.users.find(name)
            await accounts.users.delete(user.user_id)

    run(work())


async def _update(
    config: Path, name: str, *, password: str | None = None, enabled: bool | None = None, is_admin: bool | None = None
) -> None:
    async with accounts_of(config) as accounts:
        user = await accounts.users.find(name)
        await accounts.users.update(user.user_id, password=password, enabled=enabled, is_admin=is_admin)
