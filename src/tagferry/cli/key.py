"""`tagferry key`: manage the access keys (AK/SK) that sign requests."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.accounts.model import AccessKey
from tagferry.cli.accounts import accounts_of
from tagferry.cli.event_loop import run
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out

app = typer.Typer(add_completion=False, help="Manage access keys (AK/SK).", no_args_is_help=True)
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The name of the key's user.")]
KeyArgument = Annotated[str, typer.Argument(metavar="ACCESS_KEY", help="The access key's id (AK).")]
Description = Annotated[str, typer.Option("--for", help="Describe the key's purpose.")]


@app.command()
def create(user: UserArgument, description: Description = "", config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Create an access key for a user, and show its secret once."""

    async def work() -> None:
        async with accounts_of(config, needs_secrets=True) as accounts:
            owner = await accounts.users.find(user)
            _show(await accounts.keys.create(owner.user_id, description=description))

    run(work())


@app.command()
def rotate(access_key: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Create another access key with the same user and purpose. The old one stays valid until disabled or deleted."""

    async def work() -> None:
        async with accounts_of(config, needs_secrets=True) as accounts:
            old = await accounts.keys.show(access_key)
            _show(await accounts.keys.create(old.user_id, description=old.description))
        out.print(f"once the new key is in use: tagferry key disable {access_key}", soft_wrap=True)
        out.print(f"finally:                    tagferry key delete {access_key}", soft_wrap=True)

    run(work())


@app.command("list")
def list_all(user: UserArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the access keys of a user."""

    async def work() -> None:
        table = Table("access key", "created (UTC)", "last used (UTC)", "disabled", "for", box=None)
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
def disable(access_key: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Reject an access key, and all tokens and temporary credentials issued for it, until it is enabled."""
    run(_enable(config, access_key, enabled=False))


@app.command()
def enable(access_key: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Enable a disabled access key."""
    run(_enable(config, access_key, enabled=True))


@app.command()
def delete(access_key: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Delete an access key. Requests signed with it are rejected from then on."""

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
