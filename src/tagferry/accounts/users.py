"""Users and their access keys."""

import re
import secrets
import uuid
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import AccessKey, Caller
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow, DomainRow, TokenRow, UserRow
from tagferry.errors import Conflict, Invalid, NotFound

_UPPER_ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MIXED = _UPPER_ALPHANUMERIC + _UPPER_ALPHANUMERIC[:26].lower()
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
PASSWORD_MINIMUM = 8


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
        """Replace a user's password, which ends its tokens; raises NotFound or Invalid."""
        if len(password) < PASSWORD_MINIMUM:
            raise Invalid("password", f"must be at least {PASSWORD_MINIMUM} characters long")
        hashed = await self._vault.hash_password(password)
        async with self._database.write() as session:
            user, _ = await _user_by_name(session, name)
            user.password_hash = hashed
            await session.execute(delete(TokenRow).where(TokenRow.user_id == user.id))

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

    async def create_key(self, name: str) -> AccessKey:
        """Make an access key for a user; its secret is never shown again."""
        key = AccessKey(
            access_key="".join(secrets.choice(_UPPER_ALPHANUMERIC) for _ in range(20)),
            secret_key="".join(secrets.choice(_MIXED) for _ in range(40)),
        )
        async with self._database.write() as session:
            user, _ = await _user_by_name(session, name)
            session.add(
                AccessKeyRow(
                    access_key=key.access_key,
                    user_id=user.id,
                    secret_encrypted=self._vault.encrypt(key.secret_key),
                    created_at=datetime.now(UTC),
                )
            )
        return key

    async def list_keys(self, name: str) -> list[tuple[str, datetime]]:
        """A user's access keys without their secrets, with when each was made."""
        async with self._database.read() as session:
            user, _ = await _user_by_name(session, name)
            rows = await session.scalars(
                select(AccessKeyRow).where(AccessKeyRow.user_id == user.id).order_by(AccessKeyRow.created_at)
            )
            return [(row.access_key, row.created_at) for row in rows]

    async def delete_key(self, access_key: str) -> None:
        """Delete an access key; raises NotFound."""
        async with self._database.write() as session:
            deleted = await session.scalars(
                delete(AccessKeyRow).where(AccessKeyRow.access_key == access_key).returning(AccessKeyRow.access_key)
            )
            if deleted.first() is None:
                raise NotFound("access key", access_key)

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
        return caller_of(user, domain), self._vault.decrypt(key.secret_encrypted)


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
