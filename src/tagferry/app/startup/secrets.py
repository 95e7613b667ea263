"""Check that the key that encrypts secrets at rest is the one that encrypted them."""

import os
from pathlib import Path

from tagferry.accounts.keys import stored_secrets
from tagferry.accounts.vault import Vault
from tagferry.app.startup.problem import Problem
from tagferry.db.engine import Database
from tagferry.errors import Invalid
from tagferry.file_faults import file_fault
from tagferry.settings import Settings

_LOST = "if it is lost, delete all access keys with: tagferry key delete"


def key_file(settings: Settings) -> Path:
    """Return the file with the key, which is used unless `secret_key` is set."""
    return settings.data_dir / "secret.key"


def check_key(settings: Settings) -> list[Problem]:
    """Check that the key can be read; a key file that is missing is created by the first start."""
    vault = _vault(settings)
    return [vault] if isinstance(vault, Problem) else []


async def check_secrets(settings: Settings, database: Database) -> list[Problem]:
    """Try to decrypt some stored secrets; a key file that is missing is not created."""
    secrets = await stored_secrets(database)
    if not secrets:
        return []
    vault, name = _vault(settings), _name(settings)
    if isinstance(vault, Problem):
        return [vault]
    if vault is None:
        fault = "does not exist, and the access keys in the database are encrypted with it"
        return [_problem(f"{name} {fault}", "restore it from a backup or from another machine")]
    failed = sum(not vault.can_decrypt(secret) for secret in secrets)
    if failed == len(secrets):
        return [
            _problem(f"{name} does not decrypt the access keys in the database", "restore the key that encrypted them")
        ]
    if failed:
        sentence = f"{name} does not decrypt {failed} of {len(secrets)} access keys that were tried"
        remedy = "add the key that encrypted them at the end, or delete them with: tagferry key delete"
        return [Problem("secret key", sentence, remedy, "warning")]
    return []


def _name(settings: Settings) -> str:
    return "secret_key" if _configured(settings) else f'the key file "{key_file(settings)}"'


def _configured(settings: Settings) -> str | None:
    """Return the configured keys; an empty setting is none."""
    return settings.secret_key.get_secret_value() or None if settings.secret_key else None


def _vault(settings: Settings) -> Vault | Problem | None:
    """Open the vault, or return why it cannot be opened; None if the key file is missing."""
    path, configured = key_file(settings), _configured(settings)
    if configured is None and not os.path.lexists(path):
        return None
    try:
        return Vault.open(configured, path)
    except Invalid as error:
        return Problem("secret key", error.message)
    except OSError as error:
        remedy = "restore it from a backup, or set secret_key"
        if isinstance(error, PermissionError):
            remedy = "give it to the user who runs tagferry, with mode 600"
        return Problem("secret key", f"{_name(settings)} {file_fault(error)}", remedy)


def _problem(sentence: str, remedy: str) -> Problem:
    return Problem("secret key", sentence, f"{remedy}; {_LOST}")
