"""A lock holds in all processes of a PostgreSQL database, each with a lockout, a database and a message bus."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from tagferry import bounds
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.lockout import Lockout
from tagferry.accounts.shared_lockout import LoginResult, SharedLockout, share
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.coordination.pubsub import CHANNEL, message_bus_of
from tagferry.db.engine import Database
from tagferry.errors import LoginThrottled, Throttled, Unauthenticated
from tagferry.supervision import Supervisor
from tests.support.deployment import eventually
from tests.support.postgres import PostgresServer
from tests.unit.accounts.conftest import PASSWORD, TOKEN_LIFETIME

HOME, AWAY = "192.0.2.1", "198.51.100.7"


@dataclass(frozen=True)
class Process:
    """The lockout of one process: three failures lock for a minute."""

    database: Database
    lockout: Lockout

    def locks(self, claimed: str, address: str = HOME, *, is_key: bool = False) -> bool:
        try:
            self.lockout.check(claimed, address, is_key=is_key)
        except Throttled:
            return True
        return False

    async def will_lock(self, claimed: str, address: str = HOME, *, is_key: bool = False) -> None:
        async def does() -> bool:
            return self.locks(claimed, address, is_key=is_key)

        await eventually(does)

    def fail(self, times: int, claimed: str = "carol", address: str = HOME, *, is_key: bool = False) -> None:
        for _ in range(times):
            self.lockout.failed(claimed, address, is_key=is_key)


Starting = Callable[[], Awaitable[Process]]


@pytest.fixture
async def start(postgres: PostgresServer, postgres_shared: str) -> AsyncIterator[Starting]:
    async with AsyncExitStack() as stack:

        async def start_one() -> Process:
            database, supervisor = Database(postgres.url(postgres_shared)), Supervisor()
            stack.push_async_callback(database.close)
            bus = message_bus_of(database, supervisor)
            lockout = Lockout(attempts=3, seconds=60)
            await stack.enter_async_context(share(lockout, database, bus, supervisor))
            await bus.open()
            stack.push_async_callback(bus.close)
            return Process(database, lockout)

        yield start_one


@pytest.fixture
async def first(start: Starting) -> Process:
    return await start()


@pytest.fixture
async def second(start: Starting) -> Process:
    return await start()


async def test_a_lock_of_one_process_holds_in_the_others(first: Process, second: Process):
    first.fail(3)

    await second.will_lock("carol")
    assert not second.locks("carol", AWAY)
    assert not second.locks("dave")
    assert not second.locks("carol", is_key=True)


async def test_failures_at_several_processes_are_counted_together(first: Process, second: Process):
    first.fail(2)
    second.fail(1)

    await first.will_lock("carol")
    await second.will_lock("carol")


async def test_a_process_counts_its_own_failures_once(first: Process, second: Process):
    first.fail(2)
    first.fail(3, "dave")
    await second.will_lock("dave")

    assert not first.locks("carol")
    assert not second.locks("carol")


async def test_a_right_login_at_one_process_ends_the_count_in_all(first: Process, second: Process):
    first.fail(2)
    first.lockout.succeeded("carol", HOME)
    first.fail(3, "last")
    await second.will_lock("last")

    second.fail(2)
    assert not second.locks("carol")


@pytest.mark.parametrize("claimed", ["a,b:c d%20", "\ud800", "名", "x" * 1000, ""])
async def test_any_name_is_locked_in_all_processes(first: Process, second: Process, claimed: str):
    first.fail(3, claimed)

    await second.will_lock(claimed)


async def test_keys_are_locked_in_all_processes(first: Process, second: Process):
    first.fail(3, "AKIA", is_key=True)

    await second.will_lock("AKIA", is_key=True)
    assert not second.locks("AKIA")


async def test_made_up_names_of_other_addresses_and_processes_evict_no_lock(first: Process, second: Process):
    first.fail(3)
    await second.will_lock("carol")
    for number in range(bounds.LOCKED_NAMES * 3):
        second.fail(1, f"made up {number}")
        second.fail(3, f"made up {number}", AWAY)
    second.fail(3, "last", "203.0.113.9")
    await first.will_lock("last", "203.0.113.9")

    assert first.locks("carol")
    assert second.locks("carol")


async def test_a_right_login_without_failures_before_it_sends_nothing(first: Process):
    reported: list[str] = []
    report = first.lockout.on_result
    assert report is not None

    def counting(claimed: str, address: str, *, is_key: bool, has_failed: bool) -> None:
        reported.append(claimed)
        report(claimed, address, is_key=is_key, has_failed=has_failed)

    first.lockout.on_result = counting
    first.lockout.succeeded("carol", HOME)
    assert reported == []
    first.fail(1)
    first.lockout.succeeded("carol", HOME)
    assert reported == ["carol", "carol"]


async def test_malformed_messages_are_ignored(first: Process, second: Process):
    for text in ("", "carol", "a:b:c:d:e", "a:name:failed:carol", "a:name:failed:%FF:x"):
        await first.database.rows(select(func.pg_notify(CHANNEL, f"logins {text}")), {})
    first.fail(3)

    await second.will_lock("carol")


async def test_without_the_database_a_process_still_locks(postgres: PostgresServer):
    database = Database(postgres.url("nosuch"))
    lockout = Lockout(attempts=3, seconds=60)
    shared = SharedLockout(lockout, database, message_bus_of(database, Supervisor()))
    process = Process(database, lockout)
    with capture_logs() as logs:
        sending = asyncio.create_task(shared.keep_sending())
        process.fail(3)
        assert process.locks("carol")

        async def is_logged() -> bool:
            return any("were not reported" in line["event"] for line in logs)

        await eventually(is_logged)
        assert not sending.done()
        sending.cancel()
    await database.close()


@pytest.mark.parametrize(
    "result", [LoginResult("p", "name", "failed", "a:b,c", "::1"), LoginResult("p", "key", "succeeded", "", "x")]
)
def test_results_are_read_as_they_were_written(result: LoginResult):
    text = result.encode()

    assert "," not in text
    assert LoginResult.decode(text) == result


async def test_the_right_password_is_refused_at_every_process_while_a_name_is_locked(
    first: Process, second: Process, vault: Vault
):
    def authenticator(process: Process) -> Authenticator:
        users = Users(process.database, vault)
        tokens = Tokens(process.database, lifetime=TOKEN_LIFETIME)
        temporary = TemporaryCredentials(users, vault)
        return Authenticator(users, AccessKeys(process.database, vault), tokens, temporary, process.lockout)

    await Users(first.database, vault).create("erin", PASSWORD, domain="acme")
    here, there = authenticator(first), authenticator(second)
    assert (await there.by_password("erin", PASSWORD, address=HOME)).name == "erin"
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await here.by_password("erin", "wrong", address=HOME)
    await second.will_lock("erin")

    with pytest.raises(LoginThrottled):
        await there.by_password("erin", PASSWORD, address=HOME)
    assert (await there.by_password("erin", PASSWORD, address=AWAY)).name == "erin"
