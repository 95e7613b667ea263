"""One lockout for all processes of a database: each counts the failed logins of all (docs/decisions/0029)."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Self
from urllib.parse import quote, unquote

from sqlalchemy.exc import SQLAlchemyError

from tagferry import bounds
from tagferry.accounts.lockout import Lockout
from tagferry.coordination.pubsub import MessageBus, Topic
from tagferry.db.engine import Database
from tagferry.events import SparseEvents
from tagferry.supervision import Supervisor

log = SparseEvents(__name__)


class LoginResult(NamedTuple):
    """A failed login, or the first right one after failures.

    Attributes:
        process: a random name of the process that verified it.
        kind: what was claimed: `name` or `key`.
        result: `failed` or `succeeded`.
        claimed: the name or key.
        address: the client's address.
    """

    process: str
    kind: str
    result: str
    claimed: str
    address: str

    def encode(self) -> str:
        """Return it as text without commas, since clients choose what they claim."""
        return ":".join(quote(field, safe="", errors="surrogatepass") for field in self)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read it; raises ValueError."""
        fields = [unquote(field, errors="surrogatepass") for field in text.split(":")]
        if len(fields) != len(cls._fields) or fields[1] not in ("name", "key") or fields[2] not in _RESULTS:
            raise ValueError("not the result of a login")
        return cls(*fields)


_RESULTS = ("failed", "succeeded")
_TOPIC = Topic("logins", encode=LoginResult.encode, decode=LoginResult.decode)


class SharedLockout:
    """Exchanges the results of logins between the lockouts of all processes.

    A login does not wait for it, and a right one without failures before it sends nothing.
    """

    def __init__(self, lockout: Lockout, database: Database, bus: MessageBus) -> None:
        self._lockout = lockout
        self._database = database
        self._bus = bus
        self._process = secrets.token_hex(8)
        self._unsent: deque[LoginResult] = deque(maxlen=bounds.LOGIN_RESULTS_UNSENT)
        self._has_unsent = asyncio.Event()
        lockout.on_result = self._add
        bus.subscribe(_TOPIC, self._receive)

    async def keep_sending(self) -> None:
        """Send results until cancelled, those of the meantime together."""
        while True:
            await self._has_unsent.wait()
            await self._send()

    async def _send(self) -> None:
        results = list(self._unsent)
        self._unsent.clear()
        self._has_unsent.clear()
        try:
            async with self._database.write() as session:
                await self._bus.publish(session, _TOPIC, results)
        except SQLAlchemyError as error:
            # They are not sent later: a lock would begin when it should have ended.
            log.warning("failed logins were not reported to the other processes", reason=str(error))

    def _add(self, claimed: str, address: str, *, is_key: bool, has_failed: bool) -> None:
        kind, result = "key" if is_key else "name", _RESULTS[0 if has_failed else 1]
        self._unsent.append(LoginResult(self._process, kind, result, claimed, address))
        self._has_unsent.set()

    def _receive(self, results: Sequence[LoginResult]) -> None:
        for one in results:
            if one.process == self._process:
                continue
            count = self._lockout.count_failure if one.result == "failed" else self._lockout.forget
            count(one.claimed, one.address, is_key=one.kind == "key")


@asynccontextmanager
async def share(lockout: Lockout, database: Database, bus: MessageBus, supervisor: Supervisor) -> AsyncIterator[None]:
    """Share a lockout with the other processes of the database while the context is open, if there can be any."""
    if not database.is_shared:
        yield
        return
    sending = supervisor.start("sharing failed logins", SharedLockout(lockout, database, bus).keep_sending)
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.wait([sending])
