"""Access to an installation's accounts, for commands that work on its database."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tagferry.app import Accounts, FirstAdmin, open_accounts
from tagferry.cli.options import out
from tagferry.settings import Settings

FIRST_ADMIN_FILE = "first-admin.txt"
"""The file in `data_dir` with the first administrator's secrets, if it was created without a terminal."""


@asynccontextmanager
async def accounts_of(config: Path, *, needs_secrets: bool = False) -> AsyncIterator[Accounts]:
    """Open the accounts of the installation that a configuration file describes; the argument is `open_accounts`'."""
    async with open_accounts(Settings.load(config), needs_secrets=needs_secrets) as accounts:
        yield accounts


def has_database(settings: Settings) -> bool:
    """Return False if opening the database would create it."""
    if settings.has_shared_database:
        return True
    return Path(settings.effective_database_url.partition(":///")[2].partition("?")[0]).is_file()


def show_first_admin(admin: FirstAdmin) -> None:
    """Print the generated secrets. They are not shown again."""
    out.print("The administrator's secrets, shown only once; keep them safe:\n")
    out.print(_secrets(admin), soft_wrap=True, markup=False)


def deliver_first_admin(admin: FirstAdmin, folder: Path) -> None:
    """Print the generated secrets to a terminal, or write them to a private file.

    Output that does not go to a terminal may be kept as a log, which must not contain secrets.
    """
    if sys.stdout.isatty():
        show_first_admin(admin)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FIRST_ADMIN_FILE
    # An existing file may have other permissions or be a symbolic link.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(_secrets(admin))
        file.flush()
        os.fsync(file.fileno())
    out.print(
        f"The administrator's secrets are in {path}, which only its owner can read; save them, then delete the file. "
        f"To replace them, run: tagferry user password {admin.name}, tagferry key create {admin.name}",
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
