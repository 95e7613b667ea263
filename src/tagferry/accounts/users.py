"""Users and their domains."""

import hashlib
import re
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import String, and_, bindparam, delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from tagferry.accounts.model import Caller, Credential, Domain, UserRecord
from tagferry.accounts.user_rules import ID, NAME, check_description, check_name, check_password, random_password
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.remembered import RememberedQuery, Rows
from tagferry.db.tables import AccessKeyRow, DomainRow, TokenRow, UserRow
from tagferry.errors import Conflict, NotFound

_USERS = select(UserRow, DomainRow).join(DomainRow, DomainRow.id == UserRow.domain_id)
_BY_ID = _USERS.where(UserRow.id == bindparam("user"), UserRow.enabled)
CALLER = (
    UserRow.id.label("user_id"),
    UserRow.name,
    UserRow.is_admin,
    DomainRow.id.label("domain_id"),
    DomainRow.name.label("domain_name"),
)
"""The columns that make a caller."""
# Without a key, or without a token, nothing is joined and nothing is required.
_BY_CREDENTIAL = (
    select(*CALLER, UserRow.password_hash, AccessKeyRow.access_key, TokenRow.token_hash)
    .join(DomainRow, DomainRow.id == UserRow.domain_id)
    .outerjoin(
        AccessKeyRow,
        and_(AccessKeyRow.access_key == bindparam("key"), AccessKeyRow.user_id == UserRow.id, AccessKeyRow.enabled),
    )
    .outerjoin(TokenRow, TokenRow.token_hash == bindparam("token"))
    .where(
        UserRow.id == bindparam("user"),
        UserRow.enabled,
        or_(bindparam("key", type_=String).is_(None), AccessKeyRow.access_key.is_not(None)),
        or_(bindparam("token", type_=String).is_(None), TokenRow.token_hash.is_not(None)),
    )
)


class Users:
    """Stores users; every user belongs to a domain, which is created with its first user.

    There is always an enabled administrator: the last one cannot be deleted, disabled or made an ordinary user.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._by_credential = RememberedQuery(database, _BY_CREDENTIAL, _caller)

    async def create(
        self,
        name: str,
        password: str | None,
        *,
        domain: str,
        is_admin: bool = False,
        enabled: bool = True,
        description: str = "",
        profile: Mapping[str, Any] | None = None,
    ) -> Caller:
        """Create a user.

        Args:
            name: unique among all domains.
            password: None for a user who cannot log in by password until one is set.
            domain: the name of the user's domain, which is created with its first user.
            is_admin: whether the user is an administrator.
            enabled: whether the user can authenticate.
            description: a description for people.
            profile: what clients store with the user; it has no effect here.

        Raises:
            Invalid: a name, the password or the description breaks a rule.
            Conflict: the user already exists.
        """
        check_name("user name", name)
        check_name("domain", domain)
        check_description(description)
        hashed = await self._vault.hash_password(
            check_password(password if password is not None else random_password())
        )
        try:
            async with self._database.write() as session:
                domain_row = await _domain(session, domain)
                row = UserRow(
                    id=uuid.uuid4().hex,
                    domain_id=domain_row.id,
                    name=name,
                    password_hash=hashed,
                    is_admin=is_admin,
                    enabled=enabled,
                    description=description,
                    profile=dict(profile or {}),
                    created_at=datetime.now(UTC),
                )
                session.add(row)
                await session.flush()
                return caller_of(row, domain_row)
        except IntegrityError:
            if not await self.list_users(name=name):
                raise Conflict("user", f'the domain "{domain}" was created concurrently; try again') from None
            raise _taken(name) from None

    async def list_users(
        self,
        *,
        domain_id: str | None = None,
        name: str | None = None,
        enabled: bool | None = None,
        prefix: str = "",
        after: str = "",
        limit: int | None = None,
    ) -> list[UserRecord]:
        """Return the users by name.

        Args:
            domain_id: only those of this domain.
            name: only the user of this name.
            enabled: only those who can, or cannot, authenticate.
            prefix: only those whose names begin with this.
            after: only those whose names are greater.
            limit: the maximum number of users.
        """
        wanted = _USERS.order_by(UserRow.name)
        for column, value, pattern in ((UserRow.domain_id, domain_id, ID), (UserRow.name, name, NAME)):
            if value is not None:
                if not pattern.fullmatch(value):
                    return []
                wanted = wanted.where(column == value)
        if any(text and not NAME.fullmatch(text) for text in (prefix, after)):
            # Such as NUL, which PostgreSQL refuses.
            return []
        if enabled is not None:
            wanted = wanted.where(UserRow.enabled.is_(enabled))
        if prefix:
            wanted = wanted.where(UserRow.name.startswith(prefix, autoescape=True))
        if after:
            wanted = wanted.where(UserRow.name > after)
        if limit is not None:
            wanted = wanted.limit(limit)
        async with self._database.read() as session:
            return [_record(user, domain) for user, domain in await session.execute(wanted)]

    async def administrators(self) -> list[UserRecord]:
        """Return the administrators by name, disabled ones too."""
        async with self._database.read() as session:
            rows = await session.execute(_USERS.where(UserRow.is_admin).order_by(UserRow.name))
            return [_record(user, domain) for user, domain in rows]

    async def show(self, user_id: str) -> UserRecord:
        """Return the record of a user; raises NotFound."""
        async with self._database.read() as session:
            return _record(*await _user_by_id(session, user_id))

    async def find(self, name: str) -> Caller:
        """Return the user of this name; raises NotFound."""
        async with self._database.read() as session:
            user, domain = await _user_by_name(session, name)
            return caller_of(user, domain)

    async def name_of(self, user_id: str) -> str | None:
        """Return the name of a user, enabled or not; None if the user does not exist."""
        async with self._database.read() as session:
            found = await _find(session, UserRow.id, user_id, ID)
        return found[0].name if found is not None else None

    async def by_id(self, user_id: str) -> Caller | None:
        """Return the user of this id; None unless it exists and is enabled."""
        async with self._database.read() as session:
            found = (await session.execute(_BY_ID, {"user": user_id})).first()
        return caller_of(found[0], found[1]) if found is not None else None

    async def domains(self) -> list[Domain]:
        """Return the domains by name."""
        async with self._database.read() as session:
            rows = await session.scalars(select(DomainRow).order_by(DomainRow.name))
            return [Domain(domain_id=row.id, name=row.name) for row in rows]

    async def domain_name(self, domain_id: str) -> str:
        """Return the name of a domain; raises NotFound."""
        if ID.fullmatch(domain_id):
            async with self._database.read() as session:
                domain = await session.get(DomainRow, domain_id)
            if domain is not None:
                return domain.name
        raise NotFound("domain", domain_id, "create its first user with: tagferry user create")

    async def update(
        self,
        user_id: str,
        *,
        name: str | None = None,
        password: str | None = None,
        description: str | None = None,
        enabled: bool | None = None,
        is_admin: bool | None = None,
        profile: Mapping[str, Any] | None = None,
    ) -> UserRecord:
        """Change the given fields of a user, all or none; a new password revokes the tokens obtained with the old one.

        Raises:
            NotFound: the user does not exist.
            Invalid: the name, the password or the description breaks a rule.
            Conflict: another user has the name, or this is the last administrator.
        """
        if name is not None:
            check_name("user name", name)
        if description is not None:
            check_description(description)
        hashed = await self._vault.hash_password(check_password(password)) if password is not None else None
        changes = {
            "name": name,
            "description": description,
            "enabled": enabled,
            "is_admin": is_admin,
            "password_hash": hashed,
        }
        try:
            async with self._database.write() as session:
                administrators = await _lock_administrators(session)
                user, domain = await _user_by_id(session, user_id)
                if enabled is False or is_admin is False:
                    _require_another(user, administrators)
                for column, value in changes.items():
                    if value is not None:
                        setattr(user, column, value)
                if profile:
                    user.profile = {**(user.profile or {}), **profile}
                if hashed is not None:
                    by_password = TokenRow.user_id == user_id, TokenRow.access_key.is_(None)
                    await session.execute(delete(TokenRow).where(*by_password))
                await session.flush()
                return _record(user, domain)
        except IntegrityError:
            raise _taken(name or "") from None

    async def delete(self, user_id: str) -> None:
        """Delete a user with its keys and tokens; raises NotFound, or Conflict for the last administrator."""
        async with self._database.write() as session:
            administrators = await _lock_administrators(session)
            user, _ = await _user_by_id(session, user_id)
            _require_another(user, administrators)
            await session.delete(user)

    async def by_password(self, name: str, password: str) -> Caller | None:
        """Return the user if it is enabled and the password is right; takes equally long if it does not exist."""
        async with self._database.read() as session:
            found = await _find(session, UserRow.name, name, NAME)
        if found is None:
            await self._vault.hash_password(password)
            return None
        user, domain = found
        if not await self._vault.password_matches(password, user.password_hash) or not user.enabled:
            return None
        return caller_of(user, domain, Credential(version=credential_version(user.password_hash)))

    async def by_credential(self, user_id: str, access_key: str | None, token: str | None = None) -> Caller | None:
        """Return the user if it is enabled and still has this permanent access key, also enabled, or else a password.

        A credential derived from that key or password is valid as long as `credential.version` stays the same. With the
        hash of a token, that token must not have been revoked either.
        """
        return await self._by_credential.get({"user": user_id, "key": access_key, "token": token})


def caller_of(user: UserRow, domain: DomainRow, credential: Credential | None = None) -> Caller:
    """Return the caller of these rows."""
    return Caller(
        user_id=user.id,
        name=user.name,
        domain_id=domain.id,
        domain_name=domain.name,
        is_admin=user.is_admin,
        credential=credential or Credential(),
    )


def caller_of_row(row: Any, credential: Credential) -> Caller:
    """Return the caller of a row that has the columns of `CALLER`."""
    return Caller(
        user_id=row.user_id,
        name=row.name,
        domain_id=row.domain_id,
        domain_name=row.domain_name,
        is_admin=row.is_admin,
        credential=credential,
    )


def _caller(rows: Rows) -> Caller | None:
    """Return the caller of a row of `_BY_CREDENTIAL`."""
    for row in rows:
        version = credential_version(row.password_hash, row.access_key)
        return caller_of_row(row, Credential(access_key=row.access_key, token=row.token_hash, version=version))
    return None


def credential_version(password_hash: str, access_key: str | None = None) -> str:
    """Return a string that changes with the access key, or else with the password, and reveals neither."""
    return access_key if access_key is not None else hashlib.sha256(password_hash.encode()).hexdigest()[:32]


def _record(user: UserRow, domain: DomainRow) -> UserRecord:
    return UserRecord(
        user_id=user.id,
        name=user.name,
        domain_id=domain.id,
        domain_name=domain.name,
        is_admin=user.is_admin,
        enabled=user.enabled,
        description=user.description or "",
        profile=user.profile or {},
        created_at=user.created_at,
    )


def _taken(name: str) -> Conflict:
    return Conflict("user", f'the user "{name}" already exists')


async def _lock_administrators(session: AsyncSession) -> Collection[str]:
    """Return the ids of the enabled administrators, locked until this transaction ends."""
    wanted = select(UserRow.id).where(UserRow.is_admin, UserRow.enabled).order_by(UserRow.id).with_for_update()
    return (await session.scalars(wanted)).all()


def _require_another(user: UserRow, administrators: Collection[str]) -> None:
    if set(administrators) == {user.id}:
        raise Conflict("user", f'user "{user.name}" is the last administrator; make another one first')


async def _domain(session: AsyncSession, name: str) -> DomainRow:
    row = (await session.scalars(select(DomainRow).where(DomainRow.name == name))).first()
    if row is None:
        row = DomainRow(id=uuid.uuid4().hex, name=name)
        session.add(row)
        await session.flush()
    return row


async def _user_by_id(session: AsyncSession, user_id: str) -> tuple[UserRow, DomainRow]:
    found = await _find(session, UserRow.id, user_id, ID)
    if found is None:
        raise NotFound("user", user_id)
    return found


async def _user_by_name(session: AsyncSession, name: str) -> tuple[UserRow, DomainRow]:
    found = await _find(session, UserRow.name, name, NAME)
    if found is None:
        raise NotFound("user", name)
    return found


async def _find(
    session: AsyncSession, column: InstrumentedAttribute[str], value: str, pattern: re.Pattern[str]
) -> tuple[UserRow, DomainRow] | None:
    """Return the user with this value; values that do not match the pattern are not looked up."""
    if not pattern.fullmatch(value):
        return None
    found = (await session.execute(_USERS.where(column == value))).first()
    return (found[0], found[1]) if found is not None else None
