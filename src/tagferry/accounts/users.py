"""Users and their access keys."""

import hashlib
import re
import secrets
import uuid
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import AccessKey, Caller, KeyRecord, Proof
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow, DomainRow, TokenRow, UserRow
from tagferry.errors import Conflict, Invalid, NotFound

_UPPER_ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MIXED = _UPPER_ALPHANUMERIC + _UPPER_ALPHANUMERIC[:26].lower()
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
PASSWORD_MINIMUM = 8
_DESCRIPTION_LIMIT = 255


class Users:
    """Creates and finds users; every user belongs to a domain, which comes into being with its first user."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def create(self, name: str, password: str, *, domain: str, is_admin: bool = False) -> Caller:
        """Create a user.

        Raises:
            Invalid: the name or the password breaks a rule.
            Conflict: there is such a user.
        """
        if not _NAME.fullmatch(name):
            raise Invalid("user name", "must be 1 to 64 letters, digits, '.', '_' and '-'", name)
        if len(password) < PASSWORD_MINIMUM:
            raise Invalid("password", f"must be at least {PASSWORD_MINIMUM} characters long")
        hashed = await self._vault.hash_password(password)
        try:
            async with self._database.write() as session:
                domain_row = await _domain(session, domain)
                row = UserRow(
                    id=uuid.uuid4().hex,
                    domain_id=domain_row.id,
                    name=name,
                    password_hash=hashed,
                    is_admin=is_admin,
                    created_at=datetime.now(UTC),
                )
                session.add(row)
                await session.flush()
                return caller_of(row, domain_row)
        except IntegrityError:
            raise Conflict("user", f"the user {name} exists already") from None

    async def list_users(self) -> list[Caller]:
        async with self._database.read() as session:
            rows = await session.execute(
                select(UserRow, DomainRow).join(DomainRow, DomainRow.id == UserRow.domain_id).order_by(UserRow.name)
            )
            return [caller_of(user, domain) for user, domain in rows]

    async def find(self, name: str) -> Caller:
        """The user of this name; raises NotFound."""
        async with self._database.read() as session:
            user, domain = await _user_by_name(session, name)
            return caller_of(user, domain)

    async def by_id(self, user_id: str) -> Caller | None:
        """The user of this id, if there still is one."""
        async with self._database.read() as session:
            rows = await session.execute(
                select(UserRow, DomainRow)
                .join(DomainRow, DomainRow.id == UserRow.domain_id)
                .where(UserRow.id == user_id)
            )
            found = rows.first()
        return caller_of(found[0], found[1]) if found is not None else None

    async def delete(self, name: str) -> None:
        """Delete a user with its keys and tokens; raises NotFound, or Conflict for the last administrator."""
        async with self._database.write() as session:
            user, _ = await _user_by_name(session, name)
            others = select(UserRow.id).where(UserRow.is_admin, UserRow.id != user.id)
            if user.is_admin and (await session.scalars(others)).first() is None:
                raise Conflict("user", f"{name} is the last administrator; make another one first")
            await session.delete(user)

    async def set_password(self, name: str, password: str) -> None:
        """Replace a user's password, which ends the tokens got by the old one; raises NotFound or Invalid."""
        if len(password) < PASSWORD_MINIMUM:
            raise Invalid("password", f"must be at least {PASSWORD_MINIMUM} characters long")
        hashed = await self._vault.hash_password(password)
        async with self._database.write() as session:
            user, _ = await _user_by_name(session, name)
            user.password_hash = hashed
            await session.execute(delete(TokenRow).where(TokenRow.user_id == user.id, TokenRow.access_key.is_(None)))

    async def by_password(self, name: str, password: str) -> Caller | None:
        """The user, if the password is right; takes as long for a user that does not exist."""
        async with self._database.read() as session:
            try:
                user, domain = await _user_by_name(session, name)
            except NotFound:
                await self._vault.hash_password(password)
                return None
        if not await self._vault.password_matches(password, user.password_hash):
            return None
        return caller_of(user, domain)

    async def create_key(self, name: str, *, description: str = "", limit: int | None = None) -> AccessKey:
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
            user, _ = await _user_by_name(session, name)
            held = await session.scalar(
                select(func.count()).select_from(AccessKeyRow).where(AccessKeyRow.user_id == user.id)
            )
            if limit is not None and (held or 0) >= limit:
                raise Conflict("access key", f"{name} has {held} access keys already; delete one first")
            session.add(
                AccessKeyRow(
                    access_key=key.access_key,
                    user_id=user.id,
                    secret_encrypted=self._vault.encrypt(key.secret_key),
                    description=description,
                    created_at=datetime.now(UTC),
                )
            )
        return key

    async def list_keys(self, name: str) -> list[KeyRecord]:
        """A user's access keys without their secrets, the oldest first; raises NotFound."""
        async with self._database.read() as session:
            user, _ = await _user_by_name(session, name)
            rows = await session.scalars(
                select(AccessKeyRow).where(AccessKeyRow.user_id == user.id).order_by(AccessKeyRow.created_at)
            )
            return [KeyRecord(row.access_key, row.description or "", row.created_at) for row in rows]

    async def delete_key(self, access_key: str, *, user_id: str | None = None) -> None:
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
        """The owner of a permanent access key, and the key's secret."""
        found = await self._key(access_key)
        if found is None:
            return None
        key, caller = found
        return caller, self._vault.decrypt(key.secret_encrypted)

    async def by_root(self, user_id: str, access_key: str | None) -> tuple[Caller, str] | None:
        """The user, if it still has this permanent access key, or, without one, a password.

        Returns:
            The caller, and a text that changes with that key or password: what goes back to it ends then.
        """
        if access_key is not None:
            found = await self._key(access_key)
            return (found[1], access_key) if found is not None and found[1].user_id == user_id else None
        async with self._database.read() as session:
            rows = await session.execute(
                select(UserRow, DomainRow)
                .join(DomainRow, DomainRow.id == UserRow.domain_id)
                .where(UserRow.id == user_id)
            )
            owner = rows.first()
        if owner is None:
            return None
        return caller_of(owner[0], owner[1]), hashlib.sha256(owner[0].password_hash.encode()).hexdigest()[:32]

    async def _key(self, access_key: str) -> tuple[AccessKeyRow, Caller] | None:
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
        return key, replace(caller_of(user, domain), proof=Proof(access_key=access_key))


def random_key(prefix: str = "") -> AccessKey:
    """An access key that nobody has."""
    rest = "".join(secrets.choice(_UPPER_ALPHANUMERIC) for _ in range(20 - len(prefix)))
    return AccessKey(
        access_key=f"{prefix}{rest}",
        secret_key="".join(secrets.choice(_MIXED) for _ in range(40)),
    )


def random_password() -> str:
    """A password that nobody can guess."""
    return secrets.token_urlsafe(18)


def caller_of(user: UserRow, domain: DomainRow) -> Caller:
    """The caller that these rows describe."""
    return Caller(user_id=user.id, name=user.name, domain_id=domain.id, domain_name=domain.name, is_admin=user.is_admin)


async def _domain(session: AsyncSession, name: str) -> DomainRow:
    row = (await session.scalars(select(DomainRow).where(DomainRow.name == name))).first()
    if row is None:
        row = DomainRow(id=uuid.uuid4().hex, name=name)
        session.add(row)
        await session.flush()
    return row


async def _user_by_name(session: AsyncSession, name: str) -> tuple[UserRow, DomainRow]:
    if not _NAME.fullmatch(name):
        raise NotFound("user", repr(name))
    rows = await session.execute(
        select(UserRow, DomainRow).join(DomainRow, DomainRow.id == UserRow.domain_id).where(UserRow.name == name)
    )
    found = rows.first()
    if found is None:
        raise NotFound("user", name)
    return found[0], found[1]
