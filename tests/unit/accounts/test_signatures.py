"""A signature of a request that changes something is used once: in one process, in several, and beyond a restart."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import func, select

from tagferry import bounds
from tagferry.accounts.signatures import UsedSignatures, open_signatures
from tagferry.db.engine import Database
from tagferry.db.tables import UsedSignatureRow
from tagferry.errors import BadSignature, Throttled
from tagferry.supervision import Supervisor
from tests.support.clock import Clock
from tests.support.deployment import eventually


@pytest.fixture
def now() -> datetime:
    """The time at the start of the test; the tests before it may have taken longer than a signature lasts."""
    return datetime.now(UTC)


def signature(number: int) -> str:
    return f"{number:064x}"


async def use(signatures: UsedSignatures, number: int, signed_at: datetime, *, user: str = "carol") -> None:
    await signatures.use(signature(number), user_id=user, signed_at=signed_at)


async def rows(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(UsedSignatureRow)) or 0


async def test_a_second_use_is_refused_and_says_what_to_do(either: Database, now: datetime):
    async with open_signatures(either, Supervisor()) as signatures:
        await use(signatures, 1, now)
        await use(signatures, 0xAB, now)

        for used in (signature(1), signature(0xAB).upper()):
            with pytest.raises(BadSignature, match="was used already; sign the request again"):
                await signatures.use(used, user_id="carol", signed_at=now)
        await use(signatures, 2, now)


async def test_a_client_that_makes_equal_requests_within_a_second_is_not_refused_on_its_connection(
    either: Database, now: datetime, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock()
    monkeypatch.setattr("tagferry.accounts.signatures.time.monotonic", clock)
    async with open_signatures(either, Supervisor()) as signatures:
        for _ in range(3):
            await signatures.use(signature(1), user_id="carol", signed_at=now, connection="192.0.2.1 4711")
        for connection in ("192.0.2.1 4712", "192.0.2.2 4711", ""):
            with pytest.raises(BadSignature):
                await signatures.use(signature(1), user_id="carol", signed_at=now, connection=connection)

        clock.now += 5.1
        with pytest.raises(BadSignature):
            await signatures.use(signature(1), user_id="carol", signed_at=now, connection="192.0.2.1 4711")
        assert not signatures._recent


async def test_of_uses_at_once_one_counts(either: Database, now: datetime):
    async with open_signatures(either, Supervisor()) as signatures:
        ends = await asyncio.gather(*(use(signatures, 1, now) for _ in range(8)), return_exceptions=True)

    assert sorted(type(end).__name__ for end in ends) == ["BadSignature"] * 7 + ["NoneType"]


async def test_what_was_used_is_known_after_a_restart(either: Database, now: datetime):
    async with open_signatures(either, Supervisor()) as signatures:
        await use(signatures, 1, now)

    async with open_signatures(either, Supervisor()) as signatures:
        with pytest.raises(BadSignature):
            await use(signatures, 1, now)
        await use(signatures, 2, now)


async def test_what_was_used_is_in_the_database_soon(either: Database, now: datetime):
    async with open_signatures(either, Supervisor()) as signatures:
        await use(signatures, 1, now)
        assert await eventually(partial(rows, either)) == 1


async def test_processes_on_one_database_share_what_was_used(either: Database, now: datetime):
    if not either.is_shared:
        pytest.skip("one process has it")
    async with open_signatures(either, Supervisor()) as one, open_signatures(either, Supervisor()) as other:
        await use(one, 1, now)

        with pytest.raises(BadSignature):
            await use(other, 1, now)


async def test_what_has_expired_is_forgotten(either: Database, now: datetime):
    async with open_signatures(either, Supervisor()) as signatures:
        for number in range(1500):
            await use(signatures, number, now - timedelta(minutes=20))
        await use(signatures, 1500, now)
        await signatures.write()
        assert await rows(either) == 1501

        await signatures._prune()

        assert await rows(either) == 1
        assert sum(map(len, signatures._used.values())) <= 1


async def test_a_user_uses_only_so_many_within_the_window_and_others_are_not_affected(
    either: Database, now: datetime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bounds, "SIGNATURES_OF_USER", 3)
    async with open_signatures(either, Supervisor()) as signatures:
        for number in range(3):
            await use(signatures, number, now)

        with pytest.raises(Throttled, match="3 signed requests for changes within 15 minutes") as refused:
            await use(signatures, 3, now)
        assert refused.value.retry_after == 1
        await use(signatures, 4, now, user="dave")
