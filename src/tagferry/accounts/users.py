"""Users, and the domains that they belong to."""

import hashlib
import re
import secrets
import uuid
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import Caller
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow, DomainRow, TokenRow, UserRow
from tagferry.errors import Conflict, Invalid, NotFound

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
PASSWORD_MINIMUM = 8

_USERS = select(UserRow, DomainRow).join(DomainRow, DomainRow.id == UserRow.domain_id)


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
            rows = await session.execute(_USERS.order_by(UserRow.name))
            return [caller_of(user, domain) for user, domain in rows]

    async def find(self, name: str) -> Caller:
        """The user of this name; raises NotFound."""
        async with self._database.read() as session:
            user, domain = await _user_by_name(session, name)
            return caller_of(user, domain)

    async def by_id(self, user_id: str) -> Caller | None:
        """The user of this id, if there still is one."""
        async with self._database.read() as session:
            found = (await session.execute(_USERS.where(UserRow.id == user_id))).first()
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

    async def by_root(self, user_id: str, access_key: str | None) -> tuple[Caller, str] | None:
        """The user, if it still has this permanent access key, or, without one, a password.

        Returns:
            The caller, and a text that changes with that key or password: what goes back to it ends then.
        """
        wanted = _USERS.where(UserRow.id == user_id)
        if access_key is not None:
            wanted = wanted.join(AccessKeyRow, AccessKeyRow.user_id == UserRow.id).where(
                AccessKeyRow.access_key == access_key
            )
        async with self._database.read() as session:
            found = (await session.execute(wanted)).first()
        if found is None:
            return None
        user, domain = found
        if access_key is not None:
            return caller_of(user, domain), access_key
        return caller_of(user, domain), hashlib.sha256(user.password_hash.encode()).hexdigest()[:32]


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
    found = (await session.execute(_USERS.where(UserRow.name == name))).first()
    if found is None:
        raise NotFound("user", name)
    return found[0], found[1]
