"""`tagferry key`: access keys (AK/SK) to sign requests with."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.cli.accounts import accounts_of
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out, run

app = typer.Typer(help="Access keys (AK/SK).", no_args_is_help=True)
Description = Annotated[str, typer.Option("--for", help="What the key is for, to tell it from others.")]


@app.command()
def create(user: str, description: Description = "", config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Make an access key for a user, and show its secret once."""

    async def work() -> None:
        async with accounts_of(config) as accounts:
            owner = await accounts.users.find(user)
            made = await accounts.keys.create(owner.user_id, description=description)
        out.print(f"access key  {made.access_key}", soft_wrap=True)
        out.print(f"secret key  {made.secret_key}", soft_wrap=True, markup=False)

    run(work())


@app.command("list")
def list_all(user: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List a user's access keys."""

    async def work() -> None:
        table = Table("access key", "made", "for", box=None)
        async with accounts_of(config) as accounts:
            owner = await accounts.users.find(user)
            for key in await accounts.keys.list_of(owner.user_id):
                table.add_row(key.access_key, key.created_at.isoformat(timespec="seconds"), escape(key.description))
        out.print(table)

    run(work())


@app.command()
def delete(access_key: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Delete an access key; what is signed with it is refused from then on."""

    async def work() -> None:
        async with accounts_of(config) as accounts:
            await accounts.keys.delete(access_key)

    run(work())
