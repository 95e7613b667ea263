"""How commands reach the accounts of an installation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tagferry.app import Accounts, FirstAdmin, open_accounts
from tagferry.cli.options import out
from tagferry.settings import Settings


@asynccontextmanager
async def accounts_of(config: Path) -> AsyncIterator[Accounts]:
    """The accounts of the installation that this configuration describes."""
    async with open_accounts(Settings.load(config)) as accounts:
        yield accounts


def show_first_admin(admin: FirstAdmin) -> None:
    """Show the generated secrets, this once."""
    out.print("The administrator's secrets, shown this once; keep them safe:\n")
    out.print(f"  user name   {admin.name}", soft_wrap=True)
    out.print(f"  password    {admin.password}", soft_wrap=True, markup=False)
    out.print(f"  access key  {admin.key.access_key}", soft_wrap=True)
    out.print(f"  secret key  {admin.key.secret_key}\n", soft_wrap=True, markup=False)
