"""The same as `queue_load` with DBOS Transact, for a Python that has `dbos`. Prints one line of JSON.

The jobs are workflows in a queue with a partition for each organization, polled every 0.1 s. They start while others
are still being queued, since a queue is processed as soon as it is registered.

python -m bench.durable.dbos_peer URL JOBS ORGANIZATIONS SLOTS SERVER_PID
"""

import asyncio
import importlib.metadata
import json
import os
import sys
import time
from typing import Any

from dbos import DBOS, SetEnqueueOptions  # type: ignore[import-not-found]

from bench.durable.gauge import PROBES, Gauge, Load, Meter, Reading, idle_cpu, middle_ms, soon

_POLL_SECONDS = 0.1
_ACCEPTED_AT_ONCE = 50
_LIMIT_SECONDS = 900.0

_gauges: list[Gauge] = []


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def job(organization: int, name: str) -> None:
    """Record that it started."""
    if organization >= 0:
        _gauges[0].begins(organization)
    else:
        _gauges[0].other_begins(name)


async def measure(load: Load) -> Reading:
    """Fill the queue while it is processed, and wait until it is empty."""
    gauge = Gauge(load)
    _gauges.append(gauge)
    DBOS.launch()
    queue = await DBOS.register_queue_async(
        "tags", worker_concurrency=load.slots, partition_concurrency=8, polling_interval_sec=_POLL_SECONDS
    )
    started = [await _start(queue, gauge, f"probe-{number}") for number in range(PROBES)]
    accepting = asyncio.Semaphore(_ACCEPTED_AT_ONCE)

    async def accept(number: int) -> None:
        async with accepting:
            await _enqueue(queue, number % load.organizations, str(number))

    meter = Meter(load)
    newcomer = asyncio.create_task(_newcomer(queue, gauge))
    await asyncio.gather(*(accept(number) for number in range(load.jobs)))
    accepted = meter.seconds
    while gauge.begun < load.jobs:
        if meter.seconds > _LIMIT_SECONDS:
            raise TimeoutError(f"only {gauge.begun} of {load.jobs} jobs have run")
        await asyncio.sleep(0.02)
    total, cpu, server_cpu, memory = meter.seconds, meter.cpu, meter.server_cpu, meter.memory
    return Reading(
        accept_s=accepted,
        total_s=total,
        cpu_s=cpu,
        server_cpu_s=server_cpu,
        memory_mib=memory,
        spread=gauge.spread,
        newcomer_ms=await newcomer * 1000,
        start_ms=middle_ms(started),
        idle_cpu=await idle_cpu(),
    )


async def _enqueue(queue: Any, organization: int, name: str) -> None:
    with SetEnqueueOptions(queue_partition_key=str(organization)):
        await queue.enqueue_async(job, organization, name)


async def _newcomer(queue: Any, gauge: Gauge) -> float:
    await gauge.half_done.wait()
    return await _start(queue, gauge, "newcomer")


async def _start(queue: Any, gauge: Gauge, name: str) -> float:
    begins, asked_at = gauge.expect(name), time.perf_counter()
    await _enqueue(queue, -1, name)
    return await soon(begins) - asked_at


def main(url: str, load: Load) -> None:
    """Measure, and print the figures."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "executor_id": "bench",
            "application_version": "1",
            "log_level": "WARNING",
        }
    )
    figures = asyncio.run(measure(load)).document()
    print(json.dumps(figures | {"version": importlib.metadata.version("dbos")}), flush=True)
    # Its threads would keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Load(*map(int, sys.argv[2:])))
