"""Permanent access keys (AK/SK): made, found, listed and deleted."""

import secrets
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import delete, func, select

from tagferry.accounts.model import AccessKey, Caller, KeyRecord, Proof
from tagferry.accounts.users import caller_of
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow, DomainRow, TokenRow, UserRow
from tagferry.errors import Conflict, Invalid, NotFound

_UPPER_ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MIXED = _UPPER_ALPHANUMERIC + _UPPER_ALPHANUMERIC[:26].lower()
_DESCRIPTION_LIMIT = 255


class AccessKeys:
    """The access keys of all users; a key's secret is encrypted, and leaves only once."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def create(self, user_id: str, *, description: str = "", limit: int | None = None) -> AccessKey:
        """Make an access key for a user; its secret is never shown again.

        Raises:
            NotFound: there is no such user.
            Invalid: the description breaks a rule.
            Conflict: the user has `limit` keys or more.
        """
        if len(description) > _DESCRIPTION_LIMIT or "\0" in description:
            raise Invalid("description", f"must be at most {_DESCRIPTION_LIMIT} characters, none of them NUL")
        key = random_key()
        async with self._database.write() as session:
            user = await session.get(UserRow, user_id)
            if user is None:
                raise NotFound("user", user_id)
            held = await session.scalar(
                select(func.count()).select_from(AccessKeyRow).where(AccessKeyRow.user_id == user_id)
            )
            if limit is not None and (held or 0) >= limit:
                raise Conflict("access key", f"{user.name} has {held} access keys already; delete one first")
            session.add(
                AccessKeyRow(
                    access_key=key.access_key,
                    user_id=user_id,
                    secret_encrypted=self._vault.encrypt(key.secret_key),
                    description=description,
                    created_at=datetime.now(UTC),
                )
            )
        return key

    async def list_of(self, user_id: str) -> list[KeyRecord]:
        """A user's access keys without their secrets, the oldest first."""
        async with self._database.read() as session:
            rows = await session.scalars(
                select(AccessKeyRow).where(AccessKeyRow.user_id == user_id).order_by(AccessKeyRow.created_at)
            )
            return [_record(row) for row in rows]

    async def delete(self, access_key: str, *, user_id: str | None = None) -> None:
        """Delete an access key with the tokens got by it; raises NotFound, also where it is another user's."""
        wanted = [AccessKeyRow.access_key == access_key]
        if user_id is not None:
            wanted.append(AccessKeyRow.user_id == user_id)
        async with self._database.write() as session:
            deleted = await session.scalars(delete(AccessKeyRow).where(*wanted).returning(AccessKeyRow.access_key))
            if deleted.first() is None:
                raise NotFound("access key", access_key)
            await session.execute(delete(TokenRow).where(TokenRow.access_key == access_key))

    async def by_key(self, access_key: str) -> tuple[Caller, str] | None:
        """The owner of an access key, and the key's secret."""
        if not (access_key.isascii() and access_key.isalnum()):
            return None
        async with self._database.read() as session:
            rows = await session.execute(
                select(AccessKeyRow, UserRow, DomainRow)
                .join(UserRow, UserRow.id == AccessKeyRow.user_id)
                .join(DomainRow, DomainRow.id == UserRow.domain_id)
                .where(AccessKeyRow.access_key == access_key)
            )
            found = rows.first()
        if found is None:
            return None
        key, user, domain = found
        caller = replace(caller_of(user, domain), proof=Proof(access_key=access_key))
        return caller, self._vault.decrypt(key.secret_encrypted)


def random_key(prefix: str = "") -> AccessKey:
    """An access key that nobody has."""
    rest = "".join(secrets.choice(_UPPER_ALPHANUMERIC) for _ in range(20 - len(prefix)))
    return AccessKey(
        access_key=f"{prefix}{rest}",
        secret_key="".join(secrets.choice(_MIXED) for _ in range(40)),
    )


def _record(row: AccessKeyRow) -> KeyRecord:
    return KeyRecord(row.access_key, row.user_id, row.description or "", row.created_at)
