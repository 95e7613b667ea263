"""`tagferry user`: accounts of people and programs."""

import typer
from rich.table import Table

from tagferry.accounts.users import random_password
from tagferry.app import DEFAULT_DOMAIN
from tagferry.cli.accounts import accounts_of
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out, run

app = typer.Typer(help="Users.", no_args_is_help=True)


@app.command()
def create(name: str, config: ConfigFile = DEFAULT_CONFIG, admin: bool = False, domain: str = DEFAULT_DOMAIN) -> None:
    """Create a user, and show its generated password once."""

    async def work() -> None:
        password = random_password()
        async with accounts_of(config) as accounts:
            await accounts.users.create(name, password, domain=domain, is_admin=admin)
        out.print(f"user name   {name}", soft_wrap=True)
        out.print(f"password    {password}", soft_wrap=True, markup=False)

    run(work())


@app.command("list")
def list_all(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the users."""

    async def work() -> None:
        table = Table("name", "domain", "administrator", box=None)
        async with accounts_of(config) as accounts:
            for user in await accounts.users.list_users():
                table.add_row(user.name, user.domain_name, "yes" if user.is_admin else "")
        out.print(table)

    run(work())


@app.command()
def password(name: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Give a user a new password, and show it once."""

    async def work() -> None:
        new = random_password()
        async with accounts_of(config) as accounts:
            await accounts.users.set_password(name, new)
        out.print(f"password    {new}", soft_wrap=True, markup=False)

    run(work())


@app.command()
def delete(name: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Delete a user with its access keys and tokens."""

    async def work() -> None:
        async with accounts_of(config) as accounts:
            await accounts.users.delete(name)

    run(work())
