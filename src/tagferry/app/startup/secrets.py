"""Check that the key that encrypts secrets at rest is the one that encrypted them."""

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


async def check_secrets(settings: Settings, database: Database) -> list[Problem]:
    """Try to decrypt some stored secrets; a key file that is missing is not created."""
    secrets = await stored_secrets(database)
    if not secrets:
        return []
    path, configured = key_file(settings), settings.secret_key.get_secret_value() if settings.secret_key else None
    name = "secret_key" if configured else f'the key file "{path}"'
    if not configured and not path.exists():
        fault = "does not exist, and the access keys in the database are encrypted with it"
        return [_problem(f"{name} {fault}", "restore it from a backup or from another machine")]
    try:
        vault = Vault.open(configured, path)
    except Invalid as error:
        return [Problem("secret key", error.message)]
    except OSError as error:
        return [Problem("secret key", f"{name} {file_fault(error)}", "restore it from a backup")]
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


def _problem(sentence: str, remedy: str) -> Problem:
    return Problem("secret key", sentence, f"{remedy}; {_LOST}")
