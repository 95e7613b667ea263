"""How commands reach the accounts of an installation."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tagferry.app import Accounts, FirstAdmin, open_accounts
from tagferry.cli.options import out
from tagferry.settings import Settings

FIRST_ADMIN_FILE = "first-admin.txt"
"""The file in `data_dir` with the secrets of an administrator that was made where nobody looked on."""


@asynccontextmanager
async def accounts_of(config: Path) -> AsyncIterator[Accounts]:
    """The accounts of the installation that this configuration describes."""
    async with open_accounts(Settings.load(config)) as accounts:
        yield accounts


def show_first_admin(admin: FirstAdmin) -> None:
    """Show the generated secrets, this once."""
    out.print("The administrator's secrets, shown this once; keep them safe:\n")
    out.print(_secrets(admin), soft_wrap=True, markup=False)


def deliver_first_admin(admin: FirstAdmin, folder: Path) -> None:
    """Show the generated secrets on a terminal; what is written elsewhere may be kept as a log, so a file gets them."""
    if sys.stdout.isatty():
        show_first_admin(admin)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FIRST_ADMIN_FILE
    # An earlier one may have been made with other rights, or be a link to elsewhere.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(_secrets(admin))
        file.flush()
        os.fsync(file.fileno())
    out.print(
        f"The administrator's secrets are in {path}, which only its owner may read; note them, then delete the file. "
        f"For new ones run: tagferry user password {admin.name}, tagferry key create {admin.name}",
        soft_wrap=True,
        markup=False,
    )


def _secrets(admin: FirstAdmin) -> str:
    return (
        f"  user name   {admin.name}\n"
        f"  password    {admin.password}\n"
        f"  access key  {admin.key.access_key}\n"
        f"  secret key  {admin.key.secret_key}\n"
    )
