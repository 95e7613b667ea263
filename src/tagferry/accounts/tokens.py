"""IAM tokens: random, kept as hashes, valid for a limited time."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, or_, select

from tagferry.accounts.model import Caller, Proof, Token, TokenRecord
from tagferry.accounts.users import caller_of, mark_of
from tagferry.db.engine import Database
from tagferry.db.tables import AccessKeyRow, DomainRow, TokenRow, UserRow
from tagferry.errors import Unauthenticated
from tagferry.names import RegionId


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class Tokens:
    """Issues tokens and finds their owners."""

    def __init__(self, database: Database, *, lifetime: timedelta, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._lifetime = lifetime
        self._clock = clock

    async def issue(self, caller: Caller, *, method: str = "password", project: RegionId | None = None) -> Token:
        """Make a token for a user; expired ones of the same user are dropped on the way.

        Args:
            caller: whoever has just proved who it is; the token ends with the access key that it did so by.
            method: how it did so, in IAM's words.
            project: the region whose project it is for; None for the domain.

        Raises:
            Unauthenticated: the user, or the password that it showed, is gone or disabled by now.
        """
        now = self._clock()
        record = TokenRecord(
            owner=caller, method=method, project=project, issued_at=now, expires_at=now + self._lifetime
        )
        value = secrets.token_urlsafe(48)
        async with self._database.write() as session:
            # A new password ends the tokens that there are, and this one would come after.
            user = await session.get(UserRow, caller.user_id, with_for_update=True)
            if (
                user is None
                or not user.enabled
                or caller.proof.mark not in ("", mark_of(user, caller.proof.access_key))
            ):
                raise Unauthenticated("the user, or the password that it showed, is gone or disabled by now")
            await session.execute(delete(TokenRow).where(TokenRow.user_id == caller.user_id, TokenRow.expires_at < now))
            session.add(
                TokenRow(
                    token_hash=_hash(value),
                    user_id=caller.user_id,
                    method=method,
                    access_key=caller.proof.access_key,
                    project=project,
                    issued_at=record.issued_at,
                    expires_at=record.expires_at,
                )
            )
        return Token(value=value, record=record)

    async def find(self, value: str) -> TokenRecord | None:
        """What is on record of a token.

        Returns:
            None where it is unknown, has expired, or its user or access key is disabled.
        """
        async with self._database.read() as session:
            rows = await session.execute(
                select(TokenRow, UserRow, DomainRow)
                .join(UserRow, UserRow.id == TokenRow.user_id)
                .join(DomainRow, DomainRow.id == UserRow.domain_id)
                .outerjoin(AccessKeyRow, AccessKeyRow.access_key == TokenRow.access_key)
                .where(
                    TokenRow.token_hash == _hash(value),
                    TokenRow.expires_at > self._clock(),
                    UserRow.enabled,
                    or_(TokenRow.access_key.is_(None), AccessKeyRow.enabled),
                )
            )
            found = rows.first()
        if found is None:
            return None
        token, user, domain = found
        proof = Proof(access_key=token.access_key, mark=mark_of(user, token.access_key), expires_at=token.expires_at)
        return TokenRecord(
            owner=replace(caller_of(user, domain), proof=proof),
            method=token.method,
            project=RegionId(token.project) if token.project is not None else None,
            issued_at=token.issued_at,
            expires_at=token.expires_at,
        )

    async def owner(self, value: str) -> Caller | None:
        """The token's user; None as for `find`."""
        found = await self.find(value)
        return found.owner if found is not None else None


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
