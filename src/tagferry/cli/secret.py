"""`tagferry secret`: rotate the key that encrypts stored secrets."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from tagferry.accounts.key_file import exclusive, new_key
from tagferry.accounts.key_rotation import KeyRotation
from tagferry.accounts.vault import Vault
from tagferry.app import open_accounts
from tagferry.app.startup.secrets import key_file as key_file_of
from tagferry.cli.event_loop import run
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out
from tagferry.errors import Invalid
from tagferry.settings import Settings
from tagferry.workers import ProcessList

app = typer.Typer(add_completion=False, help="Rotate the key that encrypts stored secrets.", no_args_is_help=True)


@app.command()
def rotate(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Encrypt all stored secrets with a new key, also while processes run.

    Without secret_key in the configuration, this puts a new key into the key file, and running processes read it
    within seconds. With secret_key, put a new key in front of the others and reload all processes first. The command
    can be interrupted at any time and be run again.
    """

    async def work() -> None:
        async with _opened(config) as site:
            if site.key_file is None:
                done = await site.rotation.encrypt_again(site.vault)
                _print(f"encrypted {done} secrets with the first key of secret_key")
                if not done:
                    _print("to use a new key, put it in front of secret_key; make one with: tagferry secret generate")
                return
            with exclusive(site.key_file):
                done = await site.rotation.rotate(site.key_file)
            _print(f"encrypted {done} secrets with a new key, the first one in {site.key_file}")
            _print(
                "the former keys remain there for login secrets and tokens that were issued before; after a day, "
                "remove them with: tagferry secret prune"
            )

    run(work())


@app.command()
def prune(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Remove the former keys from the key file, once no stored secret needs them.

    Login secrets, registry tokens and temporary access keys that were issued with them are no longer accepted.
    """

    async def work() -> int:
        async with _opened(config) as site:
            if site.key_file is None:
                raise Invalid("secret_key", "is set in the configuration; remove its former keys there, then reload")
            with exclusive(site.key_file):
                return await site.rotation.prune(site.key_file)

    removed = run(work())
    _print(f"removed {removed} former {'key' if removed == 1 else 'keys'}" if removed else "there is no former key")


@app.command()
def generate() -> None:
    """Print a new key for secret_key."""
    _print(new_key())


@dataclass(frozen=True)
class _Site:
    """An installation's keys; `key_file` is None if they are configured."""

    rotation: KeyRotation
    vault: Vault
    key_file: Path | None


@asynccontextmanager
async def _opened(config: Path) -> AsyncIterator[_Site]:
    settings = Settings.load(config)
    async with open_accounts(settings) as accounts:
        processes = ProcessList(accounts.database)

        async def unaware(key_id: str) -> Collection[str]:
            return [one.name for one in await processes.load() if not one.is_lost and key_id not in one.key_ids]

        key_file = None if settings.secret_key else key_file_of(settings)
        yield _Site(KeyRotation(accounts.database, unaware=unaware), accounts.vault, key_file)


def _print(text: str) -> None:
    out.print(text, soft_wrap=True, markup=False)
