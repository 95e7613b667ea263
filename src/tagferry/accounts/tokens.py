"""IAM tokens: random, kept as hashes, valid for a limited time."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select

from tagferry.accounts.model import Caller, Token
from tagferry.accounts.users import caller_of
from tagferry.db.engine import Database
from tagferry.db.tables import DomainRow, TokenRow, UserRow


class Tokens:
    """Issues tokens and finds their owners."""

    def __init__(self, database: Database, *, lifetime: timedelta) -> None:
        self._database = database
        self._lifetime = lifetime

    async def issue(self, caller: Caller) -> Token:
        """Make a token for a user; expired ones of the same user are dropped on the way."""
        now = datetime.now(UTC)
        token = Token(value=secrets.token_urlsafe(48), issued_at=now, expires_at=now + self._lifetime)
        async with self._database.write() as session:
            await session.execute(delete(TokenRow).where(TokenRow.user_id == caller.user_id, TokenRow.expires_at < now))
            session.add(
                TokenRow(
                    token_hash=_hash(token.value),
                    user_id=caller.user_id,
                    issued_at=token.issued_at,
                    expires_at=token.expires_at,
                )
            )
        return token

    async def owner(self, value: str) -> Caller | None:
        """The token's user, or None where the token is unknown or has expired."""
        async with self._database.read() as session:
            rows = await session.execute(
                select(UserRow, DomainRow)
                .join(TokenRow, TokenRow.user_id == UserRow.id)
                .join(DomainRow, DomainRow.id == UserRow.domain_id)
                .where(TokenRow.token_hash == _hash(value), TokenRow.expires_at > datetime.now(UTC))
            )
            found = rows.first()
        return caller_of(found[0], found[1]) if found else None


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
