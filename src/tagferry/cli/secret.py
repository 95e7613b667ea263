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
from tagferry.workers import ProcessList, ended_processes

app = typer.Typer(add_completion=False, help="Rotate the key that encrypts stored secrets.", no_args_is_help=True)
_NEW_KEY = (
    "to use a new key, put it behind the others in secret_key, reload, move it to the front, and reload again; make "
    "one with: tagferry secret generate"
)
"""The next step if `secret_key` is set."""


@app.command()
def rotate(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Encrypt all stored secrets with a new key, also while processes run.

    Without secret_key in the configuration, this puts a new key into the key file, and running processes read it
    within seconds. With secret_key, put a new key behind the others, reload all processes, move it to the front and
    reload again first. The command can be interrupted at any time and be run again.
    """

    async def work() -> None:
        async with _opened(config) as site:
            if site.key_file is None:
                done = await site.rotation.encrypt_again(site.vault)
                _print(f"encrypted {_count(done, 'secret')} with the first key of secret_key")
                if len(site.vault.key_ids) > 1:
                    _print("after a day, remove the other keys from secret_key, then run: tagferry reload")
                if not done:
                    _print(_NEW_KEY)
                return
            with exclusive(site.key_file):
                done = await site.rotation.rotate(site.key_file)
            _print(f"encrypted {_count(done, 'secret')} with a new key, the first one in {site.key_file}")
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

    async def work() -> None:
        async with _opened(config) as site:
            if site.key_file is None:
                if len(site.vault.key_ids) == 1:
                    _print("nothing to remove: secret_key has only one key")
                    return _print(_NEW_KEY)
                rule = "is set in the configuration; remove all keys but the first there, then run: tagferry reload"
                raise Invalid("secret_key", rule)
            with exclusive(site.key_file):
                removed = await site.rotation.prune(site.key_file)
            if not removed:
                _print(f"nothing to remove: {site.key_file} has only one key")
                return _print("to use a new key, run: tagferry secret rotate")
            _print(f"removed {_count(removed, 'former key')} from {site.key_file}")
            _print("running processes read it within seconds; credentials issued with a former key have to be renewed")
            return _print("now back the file up, but keep its former backups for as long as those of the database")

    run(work())


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
            missing = [one.name for one in await processes.load() if not one.is_lost and key_id not in one.key_ids]
            ended = await ended_processes(accounts.database) if missing else ()
            return [name for name in missing if name not in ended]

        key_file = None if settings.secret_key else key_file_of(settings)
        yield _Site(KeyRotation(accounts.database, unaware=unaware), accounts.vault, key_file)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _print(text: str) -> None:
    out.print(text, soft_wrap=True, markup=False)
