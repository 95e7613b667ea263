"""Encrypt all stored secrets with a new key, while processes run.

Every step leaves a key file that decrypts everything, so a rotation can be interrupted at any time and be run again:

1. The new key is added behind the others: it decrypts, and nothing is encrypted with it yet.
2. All running processes read the file.
3. The new key moves to the front: from now on, all processes encrypt with it.
4. The stored secrets are encrypted with it, each unless it has changed meanwhile.

The former keys stay in the file, for credentials that were sealed with them, until they are removed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

from sqlalchemy import select, update

from tagferry.accounts.key_file import key_id, new_key, read_keys, write_keys
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow
from tagferry.errors import Conflict, Unavailable

_BATCH = 200
"""Secrets that one transaction encrypts, so that it does not block others for long."""
_POLL_SECONDS = 0.5

Unaware = Callable[[str], Awaitable[Collection[str]]]
"""Returns the names of the running processes that do not have a key, by its identifier."""


class KeyRotation:
    """Rotates the keys that encrypt the secrets of access keys.

    Args:
        database: stores the secrets.
        unaware: looks up running processes without a key.
        seconds: how long to wait for running processes to read the key file.
    """

    def __init__(self, database: Database, *, unaware: Unaware | None = None, seconds: float = 30.0) -> None:
        self._database = database
        self._unaware = unaware
        self._seconds = seconds

    async def rotate(self, file: Path) -> int:
        """Put a new key into the file, and encrypt all secrets with it; returns their number.

        Raises:
            Conflict: a running process does not read this file; the file is as it was.
            Unavailable: the file cannot be written, or a secret cannot be decrypted.
        """
        keys = read_keys(file)
        self._require_all_readable(await self.unreadable(Vault(keys)))
        key = new_key()
        write_keys(file, [*keys, key])
        try:
            await self._wait_until_known(key)
        except Conflict:
            write_keys(file, keys)
            raise
        write_keys(file, [key, *keys])
        return await self.encrypt_again(Vault([key, *keys]))

    async def encrypt_again(self, vault: Vault) -> int:
        """Encrypt all secrets with the newest key that are not encrypted with it; returns their number.

        Raises:
            Conflict: a running process does not have the newest key.
            Unavailable: a secret cannot be decrypted; the others are encrypted with the newest key.
        """
        if missing := await self._without(vault.key_ids[0]):
            raise Conflict("key", _NOT_KNOWN.format(_names(missing)))
        done, failed = 0, set[str]()
        while stale := await self._stale(vault, without=failed):
            async with self._database.write() as session:
                for access_key, encrypted in stale:
                    try:
                        secret = vault.encrypt(vault.decrypt(encrypted))
                    except Unavailable:
                        failed.add(access_key)
                        continue
                    # Another rotation may have encrypted it meanwhile.
                    row = (AccessKeyRow.access_key == access_key, AccessKeyRow.secret_encrypted == encrypted)
                    await session.execute(update(AccessKeyRow).where(*row).values(secret_encrypted=secret))
                    done += 1
        self._require_all_readable(failed)
        return done

    async def prune(self, file: Path) -> int:
        """Remove all keys but the newest from the file; returns their number.

        Raises:
            Conflict: a secret is encrypted with another key; nothing has changed.
        """
        newest, *others = read_keys(file)
        if others:
            if stale := await self._stale(Vault([newest]), limit=None):
                message = f"{len(stale)} secrets are not encrypted with the newest key; run: tagferry secret rotate"
                raise Conflict("key", message)
            if missing := await self._without(key_id(newest)):
                raise Conflict("key", _NOT_KNOWN.format(_names(missing)))
            write_keys(file, [newest])
        return len(others)

    async def unreadable(self, vault: Vault) -> list[str]:
        """Return the access keys whose secrets cannot be decrypted."""
        failed = []
        async with self._database.read() as session:
            for access_key, encrypted in await session.execute(_SECRETS):
                try:
                    vault.decrypt(encrypted)
                except Unavailable:
                    failed.append(access_key)
        return failed

    async def _stale(
        self, vault: Vault, *, without: Collection[str] = (), limit: int | None = _BATCH
    ) -> Sequence[tuple[str, str]]:
        """Return access keys with secrets that are not encrypted with the newest key."""
        async with self._database.read() as session:
            secrets = (await session.execute(_SECRETS)).all()
        return [one for one in secrets if one[0] not in without and not vault.is_current(one[1])][:limit]

    async def _wait_until_known(self, key: str) -> None:
        until = time.monotonic() + self._seconds
        while missing := await self._without(key_id(key)):
            if time.monotonic() >= until:
                raise Conflict("key", _NOT_READ.format(_names(missing), self._seconds))
            await asyncio.sleep(_POLL_SECONDS)

    async def _without(self, identifier: str) -> Collection[str]:
        return () if self._unaware is None else await self._unaware(identifier)

    def _require_all_readable(self, failed: Collection[str]) -> None:
        if failed:
            shown = ", ".join(sorted(failed)[:3])
            more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
            raise Unavailable(
                f"the secrets of the access keys {shown}{more} cannot be decrypted; add the key that encrypted them, "
                "or delete these access keys"
            )


_SECRETS = select(AccessKeyRow.access_key, AccessKeyRow.secret_encrypted).order_by(AccessKeyRow.access_key)
_NOT_KNOWN = "the newest key is not known to the processes {}; reload or restart them first"
_NOT_READ = (
    "the new key was not read from the key file by the processes {} within {:g} s, so nothing has changed; if they run "
    "on other machines, set secret_key on all of them instead (docs/operations.md)"
)


def _names(processes: Collection[str]) -> str:
    return ", ".join(sorted(processes))
