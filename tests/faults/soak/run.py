"""Ordinary work, registries that answer with faults, and misbehaving clients, with one server for a long time.

Users who record what was acknowledged (`tests.faults.honest`) work with two embedded regions; two further regions are
registries that answer with faults (`tests.faults.registries`). Another user reads lists and creates rules and policies.
The server's resources are sampled all the time, and in the end everything is read back.
"""

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tagferry.cli.client import ManagementClient
from tests.acceptance.served import clean_environment
from tests.faults.caller import Lost
from tests.faults.honest import Figures, User
from tests.faults.installation import Installation, install
from tests.faults.registries.soak import Findings as StormFindings
from tests.faults.registries.soak import Soak as Storm
from tests.faults.registries.soak import Terms as StormTerms
from tests.faults.soak.chores import Clerk
from tests.faults.soak.nuisances import Nuisances
from tests.faults.soak.sampling import Series
from tests.support.deployment import RELEASE, TEAM
from tests.support.processes import free_port

Result = TypeVar("Result")

_SAMPLE_SECONDS = 10.0
_SETTLE_SECONDS = 300.0
_SOURCE, _TARGET = "stormy-source", "stormy-target"


@dataclass(frozen=True)
class Terms:
    """The options of a soak.

    Attributes:
        seconds: the time during which work is started.
        seed: makes content, operations and faults.
        users: the number of users who push, pull and synchronize.
        storm_requests: the number of open sync requests between the faulty registries.
        kill_seconds: the mean time between kills of the server, after which memory is not judged; None means no kills.
        pause: the mean pause of a user between two operations, in seconds.
    """

    seconds: float
    seed: int
    users: int = 4
    storm_requests: int = 4
    kill_seconds: float | None = None
    pause: float = 0.2


@dataclass
class Findings:
    """The results of a soak."""

    figures: Figures = field(default_factory=Figures)
    series: Series = field(default_factory=Series)
    storm: StormFindings | None = None
    chores: Counter[str] = field(default_factory=Counter)
    nuisances: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[tuple[str, str]]:
        """For people."""
        for kind, count in sorted(self.figures.done.items()):
            yield f"users: {kind}", str(count)
        yield "users: in doubt; answered 429 or 503", f"{self.figures.in_doubt}; {self.figures.busy}"
        yield "users: tags read; blobs read and hashed", f"{self.figures.looks}; {self.figures.blobs}"
        for kind, count in sorted(self.chores.items()):
            yield f"chores: {kind}", str(count)
        for kind, count in sorted(self.nuisances.items()):
            yield f"nuisances: {kind}", str(count)
        for name, value in self.storm.lines() if self.storm else ():
            yield f"storm: {name.strip()}", str(value)
        yield "kills", str(self.kills)
        for name, quarters in self.series.quarters():
            yield f"{name}, mean of each quarter", "  ".join(f"{mean:.1f}" for mean in quarters)
        yield "memory at its peak (MiB)", f"{self.series.peak:.0f}"
        yield "lost, wrong, failed, growing", str(len(self.faults))


class Soak:
    """A running soak, in a folder."""

    def __init__(self, folder: Path, terms: Terms, progress: Callable[[str], None]) -> None:
        self._folder = folder
        self._terms = terms
        self._progress = progress
        self._findings = Findings()
        self._stop = threading.Event()
        self._rng = random.Random(terms.seed)
        self._storm = Storm(
            StormTerms(
                seconds=terms.seconds, seed=terms.seed, away_seconds=6.0, at_once=terms.storm_requests, job_seconds=600
            ),
            progress,
            target=_TARGET,
        )

    def run(self) -> Findings:
        """Run it."""
        with ExitStack() as stack:
            loop = stack.enter_context(_loop())
            registries = self._storm.registries()
            regions = _run(registries.__aenter__(), loop)
            stack.callback(lambda: _run(registries.__aexit__(None, None, None), loop))
            installation = self._install(*regions)
            self._server = self._start(installation)
            stack.callback(self._end)
            self._work(installation, loop)
            self._look_at_everything(installation)
        self._findings.faults += self._errors()
        return self._findings

    def _install(self, source: dict[str, Any], target: dict[str, Any]) -> Installation:
        self._storm_address = f"127.0.0.1:{free_port()}"
        names = [f"user{number}" for number in range(self._terms.users)]
        return install(
            self._folder,
            {**{name: [name] for name in names}, "stormy": [TEAM, RELEASE], "nuisance": ["nuisance"]},
            elsewhere={_SOURCE: _table({"listen": self._storm_address, **source}), _TARGET: _table(target)},
            # Records are kept for ten minutes, so that their number is constant after that.
            more="[sync]\nhistory_days = 0.007",
        )

    def _start(self, installation: Installation) -> "subprocess.Popen[bytes]":
        with (self._folder / "serve.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.soak.server"],
                cwd=self._folder,
                env=clean_environment({"PYTHONPATH": str(Path(__file__).parents[3])}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if not installation.wait_until_healthy(lambda: process.poll() is None):
            raise RuntimeError(f"the server did not start: {(self._folder / 'serve.log').read_text()[-2000:]}")
        return process

    def _work(self, installation: Installation, loop: asyncio.AbstractEventLoop) -> None:
        users = [
            User(f"user{number}", installation, str(self._terms.seed), self._findings.figures)
            for number in range(self._terms.users)
        ]
        clerk = Clerk(installation, "user0", self._terms.seed)
        nuisances = Nuisances(installation, "nuisance", self._terms.seed)
        storm = asyncio.run_coroutine_threadsafe(self._storm.synchronize(self._storm_client(installation)), loop)
        trouble = asyncio.run_coroutine_threadsafe(nuisances.work(self._stop.is_set), loop)
        threads = [threading.Thread(target=self._keep_on, args=(one,)) for one in (*users, clerk)]
        for thread in threads:
            thread.start()
        try:
            self._watch(installation)
        finally:
            self._stop.set()
        for thread in threads:
            thread.join(_SETTLE_SECONDS)
        self._findings.storm = storm.result(_SETTLE_SECONDS * 3)
        trouble.result(60)
        self._users = users
        self._findings.chores, self._findings.nuisances = clerk.done, nuisances.tried
        self._findings.faults += [*self._findings.storm.faults, *clerk.faults, *nuisances.faults]
        clerk.close()

    def _storm_client(self, installation: Installation) -> Callable[[], ManagementClient]:
        login = installation.logins["stormy"]
        return lambda: ManagementClient(f"http://{self._storm_address}", login.access_key, login.secret_key)

    def _keep_on(self, who: User | Clerk) -> None:
        rng = random.Random(self._terms.seed)
        while not self._stop.is_set():
            try:
                who.act()
                if isinstance(who, User):
                    who.finish_jobs(lambda: False)
            except Lost as error:
                self._lose(error)
            except Exception as error:
                self._findings.faults.append(f"{who} cannot continue: {error!r}")
                raise
            self._stop.wait(rng.random() * 2 * self._terms.pause)

    def _lose(self, error: Lost) -> None:
        self._findings.lost += 1
        if self._terms.kill_seconds is None:
            self._findings.faults.append(f"a request was not answered: {error}")
        self._stop.wait(0.5)

    def _watch(self, installation: Installation) -> None:
        """Take samples, and kill the server if configured."""
        began = time.monotonic()
        next_kill = self._next_kill(began)
        while (now := time.monotonic()) < began + self._terms.seconds:
            if self._server.poll() is not None:
                raise RuntimeError(f"the server has ended: {(self._folder / 'serve.log').read_text()[-2000:]}")
            self._findings.series.take(self._server.pid, installation.data)
            if next_kill is not None and now >= next_kill:
                self._server.kill()
                self._server.wait()
                self._findings.kills += 1
                self._server = self._start(installation)
                next_kill = self._next_kill(now)
            taken = len(self._findings.series.values["threads"])
            if taken % 30 == 1:
                last = {name: values[-1] for name, values in self._findings.series.values.items()}
                self._progress(
                    f"{now - began:.0f} s: {last['memory (MiB)']:.0f} MiB, {last['descriptors']:.0f} descriptors, "
                    f"{sum(self._findings.figures.done.values())} operations"
                )
            time.sleep(_SAMPLE_SECONDS)

    def _next_kill(self, now: float) -> float | None:
        seconds = self._terms.kill_seconds
        return None if seconds is None else now + seconds * (0.5 + self._rng.random())

    def _look_at_everything(self, installation: Installation) -> None:
        deadline = time.monotonic() + _SETTLE_SECONDS

        def wait() -> bool:
            time.sleep(0.2)
            return time.monotonic() < deadline

        for user in self._users:
            user.finish_jobs(wait)
            if user.open_jobs:
                self._findings.faults.append(f"{user.open_jobs} jobs of {user.name} hang")
            user.look_at_all()
            user.close()
        self._findings.faults += self._findings.figures.faults
        if self._terms.kill_seconds is None:
            self._findings.faults += self._findings.series.growing()

    def _end(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(60)
        except subprocess.TimeoutExpired:
            self._findings.faults.append("the server did not stop within a minute")
            self._server.kill()

    def _errors(self) -> Iterator[str]:
        for line in (self._folder / "serve.log").read_text(errors="replace").splitlines():
            if '"level": "error"' in line or "Traceback" in line:
                yield f"the server logged {line[:600]}"


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        _run(loop.shutdown_default_executor(), loop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _run(work: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop) -> Result:
    """Run a coroutine in the loop of another thread, within a minute."""
    return asyncio.run_coroutine_threadsafe(work, loop).result(60)


def _table(settings: dict[str, Any]) -> str:
    return "\n".join(
        f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in settings.items()
    )
