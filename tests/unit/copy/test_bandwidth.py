"""The bandwidth limit, by a fake clock."""

import asyncio
from collections.abc import AsyncIterator

from tagferry.copy.bandwidth import BandwidthLimiter
from tests.support.clock import Clock


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)


async def test_a_stream_keeps_the_limit_and_loses_no_bytes() -> None:
    time = Clock(now=100.0)
    limiter = BandwidthLimiter(1000, clock=time, sleep=time.sleep)

    passed = [chunk async for chunk in limiter.limit(chunks(2500, 2500))]

    assert sum(len(chunk) for chunk in passed) == 5000
    assert 4.7 <= time.now - 100.0 <= 5.0


async def test_a_chunk_that_is_large_for_the_limit_is_split() -> None:
    time = Clock(now=100.0)
    limiter = BandwidthLimiter(1000, clock=time, sleep=time.sleep)

    passed = [len(chunk) async for chunk in limiter.limit(chunks(250))]

    assert passed == [100, 100, 50]


async def test_streams_that_share_a_limiter_keep_its_limit_together() -> None:
    limiter = BandwidthLimiter(200_000)
    started = asyncio.get_running_loop().time()

    async def drain() -> None:
        async for _ in limiter.limit(chunks(*[10_000] * 5)):
            pass

    await asyncio.gather(drain(), drain())

    assert asyncio.get_running_loop().time() - started >= 0.2


async def test_a_long_pause_does_not_allow_a_burst_afterwards() -> None:
    time = Clock(now=100.0)
    limiter = BandwidthLimiter(1000, clock=time, sleep=time.sleep)
    await limiter.acquire(100)
    time.now += 3600

    started = time.now
    await limiter.acquire(1000)

    assert time.now - started >= 0.7
