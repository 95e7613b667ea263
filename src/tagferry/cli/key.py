"""`tagferry key`: manage the access keys (AK/SK) that sign requests."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tagferry.cli.directory import directory_of
from tagferry.cli.event_loop import run
from tagferry.cli.lines import write_json
from tagferry.cli.options import out
from tagferry.cli.site import Site, on_site
from tagferry.cli.times import show_time
from tagferry.cli.usage import naming

app = typer.Typer(add_completion=False, help="Manage access keys (AK/SK).", no_args_is_help=True)
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The name of the key's user.")]
KeyArgument = Annotated[str, typer.Argument(metavar="ACCESS_KEY", help="The access key's id (AK).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Description = Annotated[str, typer.Option("--for", help="Describe the key's purpose.")]


@app.command()
@on_site
def create(site: Site, user: UserArgument, description: Description = "", as_json: AsJson = False) -> None:
    """Create an access key for a user, and show its secret once. On a server, a user can have two."""

    async def work() -> tuple[str, str]:
        async with directory_of(site, needs_secrets=True) as directory:
            with naming({"description": "--for"}):
                return await directory.create_key(user, description)

    _show(*run(work()), as_json=as_json)


@app.command()
@on_site
def rotate(site: Site, key: KeyArgument, as_json: AsJson = False) -> None:
    """Create another access key with the same user and purpose. The old one stays valid until disabled or deleted."""

    async def work() -> tuple[str, str]:
        async with directory_of(site, needs_secrets=True) as directory:
            return await directory.rotate_key(key)

    _show(*run(work()), as_json=as_json)
    if not as_json:
        out.print(f"once the new key is in use: tagferry key disable {key}", soft_wrap=True)
        out.print(f"finally:                    tagferry key delete {key}", soft_wrap=True)


@app.command("list")
@on_site
def list_all(site: Site, user: UserArgument, as_json: AsJson = False) -> None:
    """List the access keys of a user."""

    async def work() -> None:
        async with directory_of(site) as directory:
            keys = await directory.keys_of(user)
        if as_json:
            return write_json([key.to_json() for key in keys])
        table = Table("access key", "created", "last used", "disabled", "for", box=None)
        for key in keys:
            table.add_row(
                *(key.access_key, show_time(key.created_at), show_time(key.last_used_at)),
                *("" if key.enabled else "yes", escape(key.description)),
            )
        return out.print(table)

    run(work())


@app.command()
@on_site
def disable(site: Site, key: KeyArgument) -> None:
    """Reject an access key, and all tokens and temporary credentials issued for it, until it is enabled."""
    _enable(site, key, enabled=False)


@app.command()
@on_site
def enable(site: Site, key: KeyArgument) -> None:
    """Enable a disabled access key."""
    _enable(site, key, enabled=True)


@app.command()
@on_site
def delete(site: Site, key: KeyArgument) -> None:
    """Delete an access key. Requests signed with it are rejected from then on."""

    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.delete_key(key)

    run(work())


def _enable(site: Site, access_key: str, *, enabled: bool) -> None:
    async def work() -> None:
        async with directory_of(site) as directory:
            await directory.enable_key(access_key, enabled=enabled)

    run(work())


def _show(access_key: str, secret_key: str, *, as_json: bool) -> None:
    if as_json:
        return write_json({"accessKey": access_key, "secretKey": secret_key})
    out.print(f"access key  {access_key}", soft_wrap=True)
    return out.print(f"secret key  {secret_key}", soft_wrap=True, markup=False)
