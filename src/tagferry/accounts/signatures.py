"""Accept each signature of a request for a change once, for as long as its date is valid."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_into_postgres
from sqlalchemy.exc import SQLAlchemyError

from tagferry import bounds
from tagferry.db.engine import Database
from tagferry.db.tables import UsedSignatureRow
from tagferry.errors import BadSignature, LoginThrottled
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED
from tagferry.signing import TOLERANCE
from tagferry.supervision import Supervisor

_WRITE_SECONDS = 0.25
"""Delay of writes to the table when one process uses the database."""
_REPEAT_SECONDS = 5.0
"""Time after its first use for which a signature may be used again on the same connection."""
_PRUNE_SECONDS = 60.0
_PRUNED_AT_ONCE = 1000
_MARGIN = timedelta(minutes=1)
"""Time for which a signature is remembered after its date has expired, since clocks of processes differ."""

_ADD = insert(UsedSignatureRow)
_USE = (
    insert_into_postgres(UsedSignatureRow)
    .values(signature=bindparam("signature"), expires_at=bindparam("expires_at"))
    .on_conflict_do_nothing()
    .returning(UsedSignatureRow.signature)
)
_OLD = select(UsedSignatureRow.signature).where(UsedSignatureRow.expires_at < bindparam("now")).limit(_PRUNED_AT_ONCE)

log = SparseEvents(__name__)


class UsedSignatures:
    """Remembers them: where several processes share the database, in it, otherwise in memory, and soon in it too.

    Only authentic signatures are remembered, so strangers cannot fill it, and a user can use only so many.

    Dates count seconds, so a client that makes the same request twice within a second signs both alike. On the
    connection of the first, and within a moment, the second is taken for such a request.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: dict[int, set[str]] = {}
        self._recent: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._unwritten: list[dict[str, Any]] = []
        self._budgets: dict[str, tuple[float, float]] = {}
        self._has_unwritten = asyncio.Event()

    async def use(self, signature: str, *, user_id: str, signed_at: datetime, connection: str = "") -> None:
        """Use an authentic signature, on a connection that has this name.

        Raises:
            BadSignature: it was used already.
            LoginThrottled: the user has used too many.
        """
        self._spend(user_id)
        signature = signature.lower()
        if self._is_repeated(signature, connection):
            return
        row: dict[str, Any] = {"signature": signature, "expires_at": signed_at + TOLERANCE + _MARGIN}
        is_new = await self._insert(row) if self._database.is_shared else self._remember(row)
        if not is_new:
            raise BadSignature(
                "this signature was used already; sign the request again: X-Sdk-Date counts seconds, so two equal "
                "requests within one second need a header that differs"
            )
        if connection:
            self._recent[signature] = connection, time.monotonic()

    async def load(self) -> None:
        """Remember what was used before this process began."""
        if self._database.is_shared:
            return
        wanted = select(UsedSignatureRow.signature, UsedSignatureRow.expires_at)
        for signature, expires_at in await self._database.rows(wanted, {}):
            self._used.setdefault(_minute(expires_at), set()).add(signature)

    async def keep(self) -> None:
        """Write used signatures behind, and delete expired ones, until cancelled."""
        pruned_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PRUNE_SECONDS):
                    await self._has_unwritten.wait()
            # Signatures are collected for a moment and written together, so that they do not delay requests.
            await asyncio.sleep(_WRITE_SECONDS)
            await self.write()
            if time.monotonic() - pruned_at >= _PRUNE_SECONDS:
                pruned_at = time.monotonic()
                await self._prune()

    async def write(self) -> None:
        """Write what is not in the table yet."""
        rows, self._unwritten = self._unwritten, []
        self._has_unwritten.clear()
        if not rows:
            return
        try:
            async with self._database.write() as session:
                await session.execute(_ADD, rows)
        except SQLAlchemyError as error:
            # They are in memory still; only a restart would forget them.
            log.warning("used signatures could not be written", signatures=len(rows), reason=str(error))

    def _is_repeated(self, signature: str, connection: str) -> bool:
        oldest = time.monotonic() - _REPEAT_SECONDS
        while self._recent and next(iter(self._recent.values()))[1] < oldest:
            self._recent.popitem(last=False)
        found = self._recent.get(signature)
        return found is not None and found[0] == connection

    def _remember(self, row: dict[str, Any]) -> bool:
        current = _minute(datetime.now(UTC))
        for minute in [one for one in self._used if one < current]:
            del self._used[minute]
        # A signature has one date, so that it is looked for in one minute only.
        used = self._used.setdefault(_minute(row["expires_at"]), set())
        if row["signature"] in used:
            return False
        used.add(row["signature"])
        self._unwritten.append(row)
        self._has_unwritten.set()
        return True

    async def _insert(self, row: dict[str, Any]) -> bool:
        return bool(await self._database.rows(_USE, row))

    def _spend(self, user_id: str) -> None:
        """Count a signature against the user's limit, which is restored evenly within the window."""
        now, most = time.monotonic(), float(bounds.SIGNATURES_OF_USER)
        left, before = self._budgets.get(user_id, (most, now))
        left = min(most, left + (now - before) * most / TOLERANCE.total_seconds())
        if left < 1:
            BOUND_REACHED.labels(bound="signatures_of_user").inc()
            raise LoginThrottled(
                f"the user has sent {bounds.SIGNATURES_OF_USER} signed requests for changes within 15 minutes, the "
                "maximum; try again in 1 s, or use an IAM token",
                retry_after=1,
            )
        self._budgets[user_id] = left - 1, now

    async def _prune(self) -> None:
        old = delete(UsedSignatureRow).where(UsedSignatureRow.signature.in_(_OLD))
        deleted = _PRUNED_AT_ONCE
        try:
            while deleted >= _PRUNED_AT_ONCE:
                async with self._database.write() as session:
                    result = await session.execute(old, {"now": datetime.now(UTC)})
                deleted = result.rowcount  # type: ignore[attr-defined]
        except SQLAlchemyError as error:
            log.warning("old signatures could not be deleted", reason=str(error))


@asynccontextmanager
async def open_signatures(database: Database, supervisor: Supervisor) -> AsyncIterator[UsedSignatures]:
    """The signatures that were used on this database, kept up to date while the context is open."""
    signatures = UsedSignatures(database)
    await signatures.load()
    keeping = supervisor.start("recording used signatures", signatures.keep, is_essential=True)
    try:
        yield signatures
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await signatures.write()


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // 60)
