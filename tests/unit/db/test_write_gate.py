"""One writer at a time: in order, however the others end."""

import asyncio
from pathlib import Path

import pytest

from tagferry.db.engine import Database
from tagferry.db.tables import DomainRow
from tagferry.db.write_gate import WriteGate
from tagferry.errors import DatabaseUnavailable


async def started(count: int, gate: WriteGate, order: list[int]) -> list[asyncio.Task[None]]:
    """Start writers that wait for the gate, in this order."""

    async def write(number: int) -> None:
        async with gate:
            order.append(number)
            await asyncio.sleep(0)

    writers = []
    for number in range(count):
        writers.append(asyncio.create_task(write(number)))
        await asyncio.sleep(0)
    return writers


async def test_writers_pass_in_the_order_in_which_they_asked():
    gate, order = WriteGate(), list[int]()
    async with gate:
        writers = await started(5, gate, order)
        assert order == []
    await asyncio.gather(*writers)

    assert order == [0, 1, 2, 3, 4]


async def test_a_writer_that_is_cancelled_while_it_waits_keeps_no_other_from_passing():
    gate, order = WriteGate(), list[int]()
    async with gate:
        writers = await started(5, gate, order)
        writers[0].cancel()
        writers[3].cancel()
    # The first one that is left has the gate by now, and is cancelled in it.
    await asyncio.sleep(0)
    writers[1].cancel()
    await asyncio.gather(*writers, return_exceptions=True)

    assert order[-2:] == [2, 4]


async def test_a_writer_waits_for_a_limited_time():
    gate, order = WriteGate(seconds=0.01), list[int]()
    async with gate:
        (waiting,) = await started(1, gate, order)
        with pytest.raises(DatabaseUnavailable, match="the database cannot be used") as refused:
            await waiting
    await (await started(1, gate, order))[0]

    assert refused.value.detail.startswith("a write waited 0 s for those before it")
    assert order == [0]


async def test_a_writer_that_fails_lets_the_next_one_pass():
    gate, order = WriteGate(), list[int]()
    entered = asyncio.Event()

    async def fail() -> None:
        async with gate:
            entered.set()
            await asyncio.sleep(0)
            raise ValueError("broken")

    failing = asyncio.create_task(fail())
    await entered.wait()
    (waiting,) = await started(1, gate, order)
    with pytest.raises(ValueError, match="broken"):
        await failing
    await waiting

    assert order == [0]


async def test_a_write_within_a_write_is_refused_instead_of_waiting_for_itself(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'tagferry.db'}")
    await database.migrate()

    async def write() -> None:
        async with database.write() as session:
            session.add(DomainRow(id="1", name="acme"))
            async with database.write():
                pass

    with pytest.raises(RuntimeError, match="must end its write before it begins another"):
        await write()
    async with database.write() as session:
        session.add(DomainRow(id="2", name="other"))
    async with database.read() as session:
        assert await session.get(DomainRow, "1") is None
    await database.close()
