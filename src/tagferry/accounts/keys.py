"""Permanent access keys (AK/SK)."""

import asyncio
import secrets
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, delete, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tagferry.accounts.model import AccessKey, Caller, Credential, KeyRecord
from tagferry.accounts.user_rules import check_description
from tagferry.accounts.users import CALLER, caller_of_row
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.remembered import RememberedQuery, Rows
from tagferry.db.tables import AccessKeyRow, DomainRow, TokenRow, UserRow
from tagferry.errors import Conflict, NotFound
from tagferry.events import SparseEvents

_UPPER_ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MIXED = _UPPER_ALPHANUMERIC + _UPPER_ALPHANUMERIC[:26].lower()
_USE_SECONDS = 300.0
"""Minimum seconds between two updates of a key's last use."""
_USE_LIMIT = 10_000
_SAMPLE = 10

_OWNER = (
    select(*CALLER, AccessKeyRow.access_key, AccessKeyRow.secret_encrypted)
    .join(UserRow, UserRow.id == AccessKeyRow.user_id)
    .join(DomainRow, DomainRow.id == UserRow.domain_id)
    .where(AccessKeyRow.access_key == bindparam("key"), AccessKeyRow.enabled, UserRow.enabled)
)

log = SparseEvents(__name__)


class AccessKeys:
    """Stores the access keys of users; secrets are encrypted, and returned only on creation.

    A disabled key does not authenticate, and neither do credentials obtained with it.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._owners = RememberedQuery(database, _OWNER, self._owner)
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._writes: set[asyncio.Task[None]] = set()

    async def create(self, user_id: str, *, description: str = "", limit: int | None = None) -> AccessKey:
        """Create an access key for a user; its secret is returned only here.

        Raises:
            NotFound: the user does not exist.
            Invalid: the description breaks a rule.
            Conflict: the user already has `limit` keys.
        """
        check_description(description)
        key = random_key()
        async with self._database.write() as session:
            user = await session.get(UserRow, user_id, with_for_update=True)
            if user is None:
                raise NotFound("user", user_id)
            held = await session.scalar(
                select(func.count()).select_from(AccessKeyRow).where(AccessKeyRow.user_id == user_id)
            )
            if limit is not None and (held or 0) >= limit:
                raise Conflict("access key", f'user "{user.name}" already has {held} access keys; delete one first')
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
        """Return a user's access keys without their secrets, oldest first."""
        async with self._database.read() as session:
            rows = await session.scalars(
                select(AccessKeyRow)
                .where(AccessKeyRow.user_id == user_id)
                .order_by(AccessKeyRow.created_at, AccessKeyRow.access_key)
            )
            return [_record(row) for row in rows]

    async def show(self, access_key: str) -> KeyRecord:
        """Return the record of an access key; raises NotFound."""
        if _may_be_key(access_key):
            async with self._database.read() as session:
                row = await session.get(AccessKeyRow, access_key)
            if row is not None:
                return _record(row)
        raise _missing(access_key)

    async def update(
        self, access_key: str, *, enabled: bool | None = None, description: str | None = None
    ) -> KeyRecord:
        """Change the given fields of an access key; raises NotFound, or Invalid for the description."""
        if description is not None:
            check_description(description)
        if _may_be_key(access_key):
            async with self._database.write() as session:
                row = await session.get(AccessKeyRow, access_key)
                if row is not None:
                    row.enabled = row.enabled if enabled is None else enabled
                    row.description = row.description if description is None else description
                    return _record(row)
        raise _missing(access_key)

    async def delete(self, access_key: str) -> None:
        """Delete an access key and the tokens obtained with it; raises NotFound."""
        if not _may_be_key(access_key):
            raise _missing(access_key)
        async with self._database.write() as session:
            wanted = delete(AccessKeyRow).where(AccessKeyRow.access_key == access_key)
            deleted = await session.scalars(wanted.returning(AccessKeyRow.access_key))
            if deleted.first() is None:
                raise _missing(access_key)
            await session.execute(delete(TokenRow).where(TokenRow.access_key == access_key))

    async def by_key(self, access_key: str) -> tuple[Caller, str] | None:
        """Return the owner and the secret of an access key; None unless both user and key exist and are enabled."""
        if not _may_be_key(access_key):
            return None
        return await self._owners.get({"key": access_key})

    def used(self, access_key: str) -> None:
        """Record the use of a key in the background, at most once in five minutes."""
        now, before = time.monotonic(), self._noted.get(access_key)
        if before is not None and now - before < _USE_SECONDS:
            return
        self._noted[access_key] = now
        self._noted.move_to_end(access_key)
        if len(self._noted) > _USE_LIMIT:
            self._noted.popitem(last=False)
        writing = asyncio.create_task(self._write_use(access_key))
        self._writes.add(writing)
        writing.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Wait for pending writes."""
        if self._writes:
            await asyncio.wait(self._writes)

    def _owner(self, rows: Rows) -> tuple[Caller, str] | None:
        for row in rows:
            caller = caller_of_row(row, Credential(row.access_key, row.access_key))
            return caller, self._vault.decrypt(row.secret_encrypted)
        return None

    async def _write_use(self, access_key: str) -> None:
        now = datetime.now(UTC)
        # Another process may have recorded a use recently.
        is_old = or_(
            AccessKeyRow.last_used_at.is_(None), AccessKeyRow.last_used_at < now - timedelta(seconds=_USE_SECONDS)
        )
        try:
            async with self._database.write() as session:
                await session.execute(
                    update(AccessKeyRow).where(AccessKeyRow.access_key == access_key, is_old).values(last_used_at=now)
                )
        except SQLAlchemyError as error:
            log.warning("could not record the use of an access key", reason=str(error))


async def stored_secrets(database: Database) -> set[str]:
    """Return some of the encrypted secrets of access keys: the oldest, and the newest; none if there are no keys."""
    async with database.read() as session:
        return await session.run_sync(read_stored_secrets)


def read_stored_secrets(session: Session) -> set[str]:
    """Return the same, read in the session of a synchronous connection."""
    held = select(AccessKeyRow.secret_encrypted).where(AccessKeyRow.enabled).limit(_SAMPLE)
    oldest = session.scalars(held.order_by(AccessKeyRow.created_at))
    newest = session.scalars(held.order_by(AccessKeyRow.created_at.desc()))
    return {*oldest, *newest}


def random_key(prefix: str = "") -> AccessKey:
    """Return a random access key."""
    rest = "".join(secrets.choice(_UPPER_ALPHANUMERIC) for _ in range(20 - len(prefix)))
    return AccessKey(
        access_key=f"{prefix}{rest}",
        secret_key="".join(secrets.choice(_MIXED) for _ in range(40)),
    )


def _may_be_key(access_key: str) -> bool:
    """Return whether a string has the form of an access key."""
    return access_key.isascii() and access_key.isalnum()


def _missing(access_key: str) -> NotFound:
    return NotFound("access key", access_key)


def _record(row: AccessKeyRow) -> KeyRecord:
    return KeyRecord(
        access_key=row.access_key,
        user_id=row.user_id,
        description=row.description or "",
        enabled=row.enabled,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )
