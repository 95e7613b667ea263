"""Options that several commands share, and how a command runs."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from rich.console import Console

from tagferry.app import Accounts, FirstAdmin, open_accounts
from tagferry.settings import Settings

Result = TypeVar("Result")

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", envvar="TAGFERRY_CONFIG", help="The configuration file.", show_default=True)
]
DEFAULT_CONFIG = Path("tagferry.toml")

out = Console(highlight=False)
"""Where commands write what they were asked for."""
err = Console(stderr=True, highlight=False)
"""Where commands write everything else."""


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work on a fast event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


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
