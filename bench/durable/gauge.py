"""The measurements of a queue, for tagferry's and a peer's. Needs only the standard library."""

import asyncio
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from statistics import median

from bench.measure import MIB, cpu_of_all, peak_rss_of

_IDLE_SECONDS = 5.0
_WAIT_SECONDS = 600.0
PROBES = 20


@dataclass(frozen=True)
class Load:
    """The load on a queue.

    Attributes:
        jobs: their number, divided evenly between the organizations.
        slots: jobs that run at once.
        server: the process id of the PostgreSQL server, 0 without one.
    """

    jobs: int
    organizations: int
    slots: int
    server: int


@dataclass(frozen=True)
class Reading:
    """The results of a queue.

    Attributes:
        accept_s: seconds until all jobs were in the queue.
        total_s: seconds from the first acceptance to the last end.
        cpu_s: seconds of this process's CPU meanwhile.
        server_cpu_s: the same of the PostgreSQL server with all its processes.
        memory_mib: the growth of the process's peak memory meanwhile.
        spread: the greatest difference between the organizations' numbers of started jobs, while all had some left.
        newcomer_ms: the wait of one job of another organization, queued when half were done.
        start_ms: the median time from requesting one job to its start, in an idle queue.
        idle_cpu: the share of a core that the process uses while idle.
    """

    accept_s: float
    total_s: float
    cpu_s: float
    server_cpu_s: float
    memory_mib: float
    spread: int
    newcomer_ms: float
    start_ms: float
    idle_cpu: float

    def document(self) -> dict[str, float]:
        """Return the results, rounded, for JSON."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class Gauge:
    """Records the starts of jobs; those of the load have organizations 0, 1, 2, …, and others any other name."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._each = load.jobs // load.organizations
        self._begun: Counter[int] = Counter()
        self._others: dict[str, asyncio.Future[float]] = {}
        self.spread = 0
        self.half_done = asyncio.Event()

    def begins(self, organization: int) -> None:
        """Record that a job of the load starts."""
        self._begun[organization] += 1
        if max(self._begun.values()) < self._each:
            fewest = min(self._begun.values()) if len(self._begun) == self._load.organizations else 0
            self.spread = max(self.spread, max(self._begun.values()) - fewest)
        if self._begun.total() == self._load.jobs // 2:
            self.half_done.set()

    @property
    def begun(self) -> int:
        """The number of started jobs of the load."""
        return self._begun.total()

    def expect(self, name: str) -> asyncio.Future[float]:
        """Wait for the start of a job of this name; returns it by `time.perf_counter`."""
        return self._others.setdefault(name, asyncio.get_running_loop().create_future())

    def other_begins(self, name: str) -> None:
        """Record that a job outside of the load starts."""
        self._others[name].set_result(time.perf_counter())


class Meter:
    """The usage of this process and the database's server since this object was created."""

    def __init__(self, load: Load) -> None:
        self._server = load.server
        self._begun_at = time.perf_counter()
        self._cpu = time.process_time()
        self._server_cpu = cpu_of_all(load.server)
        self._rss = peak_rss_of(os.getpid())

    @property
    def seconds(self) -> float:
        """Since its making."""
        return time.perf_counter() - self._begun_at

    @property
    def cpu(self) -> float:
        """Seconds of this process."""
        return time.process_time() - self._cpu

    @property
    def server_cpu(self) -> float:
        """Seconds of the database's server."""
        return cpu_of_all(self._server) - self._server_cpu

    @property
    def memory(self) -> float:
        """MiB by which the peak has grown."""
        return (peak_rss_of(os.getpid()) - self._rss) / MIB


async def idle_cpu() -> float:
    """Return the share of a core that this process uses while idle."""
    await asyncio.sleep(1)
    used, begun = time.process_time(), time.perf_counter()
    await asyncio.sleep(_IDLE_SECONDS)
    return (time.process_time() - used) / (time.perf_counter() - begun)


async def soon(waiting: asyncio.Future[float]) -> float:
    """The same within a bound."""
    async with asyncio.timeout(_WAIT_SECONDS):
        return await waiting


def middle_ms(seconds: list[float]) -> float:
    """The median in milliseconds."""
    return median(seconds) * 1000
