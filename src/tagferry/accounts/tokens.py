"""IAM tokens: random, kept as hashes, valid for a limited time."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import and_, bindparam, delete, exists, or_, select
from sqlalchemy.orm import aliased

from tagferry import bounds
from tagferry.accounts.model import Caller, Credential, Token, TokenRecord
from tagferry.accounts.users import CALLER, caller_of_row, credential_version
from tagferry.db.engine import Database
from tagferry.db.generation import replaced
from tagferry.db.remembered import RememberedQuery, Rows
from tagferry.db.tables import AccessKeyRow, DomainRow, TokenRow, UserRow
from tagferry.errors import Unauthenticated
from tagferry.names import RegionId

_AND = ","
"""Separates the methods by which a token was issued."""
_CONSOLE = "console"
"""The method of a session of the console, which is not a token for the APIs."""


MAX_CLOCK_SKEW = timedelta(days=1)
"""The tolerance for a clock that was ahead when a credential was issued: the largest error of a wrong time zone,
whose correction must not log out everyone."""


def utc_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


_EXPIRED_KEPT = timedelta(hours=1)
"""Time after which an expired token causes the deletion of all expired tokens of its user. Deletions replace the
generation, so they must not come with every new token."""

_BY_HASH = (
    select(
        *CALLER,
        TokenRow.token_hash,
        TokenRow.method,
        TokenRow.access_key,
        TokenRow.project,
        TokenRow.is_scoped,
        TokenRow.issued_at,
        TokenRow.expires_at,
        UserRow.password_hash,
        and_(UserRow.enabled, or_(TokenRow.access_key.is_(None), AccessKeyRow.enabled)).label("is_enabled"),
    )
    .join(UserRow, UserRow.id == TokenRow.user_id)
    .join(DomainRow, DomainRow.id == UserRow.domain_id)
    .outerjoin(AccessKeyRow, AccessKeyRow.access_key == TokenRow.access_key)
    .where(TokenRow.token_hash == bindparam("token"))
)
_earlier = aliased(TokenRow)
_EXPIRED = delete(TokenRow).where(
    TokenRow.user_id == bindparam("user"),
    TokenRow.expires_at < bindparam("now"),
    exists().where(_earlier.user_id == bindparam("user"), _earlier.expires_at < bindparam("earlier")),
)


@dataclass(frozen=True, slots=True)
class _Found:
    """A stored token, possibly expired.

    Attributes:
        is_enabled: whether its user, and the access key that it was issued for, are enabled.
    """

    record: TokenRecord
    is_enabled: bool


class Tokens:
    """Issues tokens and finds their owners. A reload changes `lifetime`."""

    def __init__(self, database: Database, *, lifetime: timedelta, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self.lifetime = lifetime
        self._clock = clock
        self._by_hash = RememberedQuery(database, _BY_HASH, _found)

    async def issue_session(self, caller: Caller) -> Token:
        """Issue a session of the console, as `issue` does; no API accepts it as a token."""
        return await self.issue(caller, methods=(_CONSOLE,), is_scoped=False)

    async def issue(
        self,
        caller: Caller,
        *,
        methods: tuple[str, ...] = ("password",),
        project: RegionId | None = None,
        is_scoped: bool = True,
    ) -> Token:
        """Issue a token for a user, and delete the user's expired ones.

        Args:
            caller: the user who has just authenticated; the token ends with the access key or the token that
                authenticated it, and does not outlive it.
            methods: how the user authenticated, in IAM's words; those of the token that it showed are added.
            project: the region whose project it is for; None for the domain.
            is_scoped: False for a token that is for neither.

        Raises:
            Unauthenticated: the user, or the password or token that it showed, no longer exists or is disabled.
        """
        now = self._clock()
        credential = caller.credential
        expires_at = (
            now + self.lifetime if credential.expires_at is None else min(now + self.lifetime, credential.expires_at)
        )
        value = secrets.token_urlsafe(48)
        async with self._database.write() as session:
            # The lock orders this after a change of the password, which revokes the existing tokens.
            user = await session.get(UserRow, caller.user_id, with_for_update=True)
            if (
                user is None
                or not user.enabled
                or credential.version not in ("", credential_version(user.password_hash, credential.access_key))
            ):
                raise Unauthenticated("the user, or the password used, was deleted or disabled")
            if credential.token is not None:
                parent = await session.get(TokenRow, credential.token)
                if parent is None:
                    raise Unauthenticated("the token that the user showed was revoked or has expired; get a new one")
                methods = tuple(sorted({*methods, *parent.method.split(_AND)}))
            await session.execute(_EXPIRED, {"user": caller.user_id, "now": now, "earlier": now - _EXPIRED_KEPT})
            session.add(
                TokenRow(
                    token_hash=_hash(value),
                    user_id=caller.user_id,
                    method=_AND.join(methods),
                    access_key=credential.access_key,
                    parent=credential.token,
                    project=project,
                    is_scoped=is_scoped,
                    issued_at=now,
                    expires_at=expires_at,
                )
            )
        record = TokenRecord(caller, methods, project, is_scoped, issued_at=now, expires_at=expires_at)
        return Token(value=value, record=record)

    async def find(self, value: str, *, even_disabled: bool = False) -> TokenRecord | None:
        """Return the record of a token, which is not a session of the console.

        Args:
            value: the token.
            even_disabled: also find a token whose user or access key is disabled; it authenticates no request until
                they are enabled again.

        Returns:
            None if it is unknown, expired or disabled, or if it was issued in the future: then the clock was or is
                wrong, and could make an expired token valid again.
        """
        found = await self._find(value, even_disabled=even_disabled)
        return found if found is not None and _CONSOLE not in found.methods else None

    async def session(self, value: str) -> TokenRecord | None:
        """Return the record of a session of the console; None as for `find`."""
        found = await self._find(value)
        return found if found is not None and _CONSOLE in found.methods else None

    async def _find(self, value: str, *, even_disabled: bool = False) -> TokenRecord | None:
        if len(value) > bounds.IAM_TOKEN_CHARACTERS:
            return None
        found = await self._by_hash.get({"token": _hash(value)})
        now = self._clock()
        if found is None or not (found.is_enabled or even_disabled):
            return None
        record = found.record
        return record if record.issued_at - MAX_CLOCK_SKEW <= now < record.expires_at else None

    async def revoke(self, token: TokenRecord) -> None:
        """Revoke a token and all tokens issued by it; the next request with one of them is refused."""
        revoked = (
            select(TokenRow.token_hash).where(TokenRow.token_hash == token.owner.credential.token).cte(recursive=True)
        )
        revoked = revoked.union(select(TokenRow.token_hash).where(TokenRow.parent == revoked.c.token_hash))
        async with self._database.write() as session:
            # The lock makes a token that is being issued with this one either visible here or fail.
            await session.get(UserRow, token.owner.user_id, with_for_update=True)
            deleted = await session.execute(
                delete(TokenRow).where(TokenRow.token_hash.in_(select(revoked.c.token_hash)))
            )
            if not deleted.rowcount:  # type: ignore[attr-defined]
                # An earlier state of the database may have been restored, so that only processes know the token.
                await session.execute(replaced())

    async def owner(self, value: str) -> Caller | None:
        """Return the owner of a token; None as for `find`."""
        found = await self.find(value)
        return found.owner if found is not None else None


def _found(rows: Rows) -> _Found | None:
    """Return the token of a row of `_BY_HASH`."""
    for row in rows:
        if row.issued_at is None or row.expires_at is None:
            # Damaged on disk.
            return None
        credential = Credential(
            access_key=row.access_key,
            token=row.token_hash,
            version=credential_version(row.password_hash, row.access_key),
            expires_at=row.expires_at,
        )
        record = TokenRecord(
            owner=caller_of_row(row, credential),
            methods=tuple(row.method.split(_AND)),
            project=RegionId(row.project) if row.project is not None else None,
            is_scoped=row.is_scoped,
            issued_at=row.issued_at,
            expires_at=row.expires_at,
        )
        return _Found(record, bool(row.is_enabled))
    return None


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
