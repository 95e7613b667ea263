"""`tagferry key`: access keys (AK/SK) to sign requests with."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.accounts.model import AccessKey
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
            _show(await accounts.keys.create(owner.user_id, description=description))

    run(work())


@app.command()
def rotate(access_key: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Make another access key for the same user and purpose; the old one stays until it is disabled or deleted."""

    async def work() -> None:
        async with accounts_of(config) as accounts:
            old = await accounts.keys.show(access_key)
            _show(await accounts.keys.create(old.user_id, description=old.description))
        out.print(f"once it is in use: tagferry key disable {access_key}", soft_wrap=True)
        out.print(f"and at last:       tagferry key delete {access_key}", soft_wrap=True)

    run(work())


@app.command("list")
def list_all(user: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List a user's access keys."""

    async def work() -> None:
        table = Table("access key", "made (UTC)", "used (UTC)", "disabled", "for", box=None)
        async with accounts_of(config) as accounts:
            owner = await accounts.users.find(user)
            for key in await accounts.keys.list_of(owner.user_id):
                table.add_row(
                    *(key.access_key, _moment(key.created_at), _moment(key.last_used_at)),
                    *("" if key.enabled else "yes", escape(key.description)),
                )
        out.print(table)

    run(work())


@app.command()
def disable(access_key: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Refuse what is signed with an access key, or was got by it, until it is enabled."""
    run(_enable(config, access_key, enabled=False))


@app.command()
def enable(access_key: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Accept a disabled access key again."""
    run(_enable(config, access_key, enabled=True))


@app.command()
def delete(access_key: str, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Delete an access key; what is signed with it is refused from then on."""

    async def work() -> None:
        async with accounts_of(config) as accounts:
            await accounts.keys.delete(access_key)

    run(work())


async def _enable(config: Path, access_key: str, *, enabled: bool) -> None:
    async with accounts_of(config) as accounts:
        await accounts.keys.update(access_key, enabled=enabled)


def _show(key: AccessKey) -> None:
    out.print(f"access key  {key.access_key}", soft_wrap=True)
    out.print(f"secret key  {key.secret_key}", soft_wrap=True, markup=False)


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment is not None else ""
