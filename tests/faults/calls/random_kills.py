"""Kills at random system calls of a server that is busy with pushes and syncs, and checks of the content afterwards.

The server has two embedded regions and its database in one folder. Users push, move, delete, pull and synchronize all
the time. A kill hits at a call that is chosen at random from those that change files in that folder, the database's
among them; the server is started again at once, and everybody first looks at what changed since the last kill.
"""

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.served import clean_environment
from tests.faults.caller import Lost
from tests.faults.calls.shim import KILL, Injection, Shim
from tests.faults.honest import Figures, User
from tests.faults.installation import Installation, install

_DEADLINE_SECONDS = 60.0
_AREAS = ("_uploads", "_blobs", "_manifests", "_tags", "_referrers", "temporary", "blobs", "repositories")


@dataclass(frozen=True)
class Plan:
    """The options of a run.

    Attributes:
        kills: the number of kills.
        seed: makes the content, the operations and the moments.
        users: the number of concurrent users.
        farthest: a kill hits at most so many calls after everybody is at work again.
        full_look: after so many kills everything is looked at.
        at_start: the share of kills that hit while the server starts.
    """

    kills: int
    seed: int
    users: int = 4
    farthest: int = 400
    full_look: int = 25
    at_start: float = 0.1


@dataclass
class Findings:
    """The outcome of a run.

    Attributes:
        areas: kills by the purpose of the call.
        failures: starts that failed without a kill.
    """

    figures: Figures = field(default_factory=Figures)
    kills: int = 0
    areas: Counter[str] = field(default_factory=Counter)
    starting: int = 0
    calls: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[tuple[str, str]]:
        """For people."""
        figures = self.figures
        yield "kills", f"{self.kills}, {self.starting} of them while the server started, in {self.seconds:.0f} s"
        for area, count in self.areas.most_common():
            yield f"  at a call for {area}", str(count)
        yield "calls that changed files", str(self.calls)
        for kind, count in sorted(figures.done.items()):
            yield f"acknowledged: {kind}", str(count)
        yield "in doubt when the server went away", str(figures.in_doubt)
        yield "tags read back; blobs read back and hashed", f"{figures.looks}; {figures.blobs}"
        yield "answers 429 and 503", str(figures.busy)
        yield "lost, wrong, in part, failed", str(len(self.faults) + len(figures.faults))


class Server:
    """The server under the shim, forked from a nursery."""

    def __init__(self, installation: Installation, shim: Shim, logs: Path) -> None:
        self._installation = installation
        self._log = logs / "serve.log"
        self._ended = threading.Event()
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.calls.nursery"],
            env=clean_environment(shim.environment()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def start(self) -> bool:
        """Start it, and wait until it answers; False if it was killed before."""
        self._ended.clear()
        self._write(json.dumps({"folder": str(self._installation.folder), "log": str(self._log)}))
        self.id = int(self._read())
        threading.Thread(target=self._watch, daemon=True).start()
        return self._installation.wait_until_healthy(lambda: not self._ended.is_set())

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it has ended."""
        return self._ended.wait(seconds)

    def close(self) -> None:
        """End the nursery, and with it what runs."""
        if not self._ended.is_set():
            subprocess.run(["kill", "-KILL", str(self.id)], check=False)
            self._ended.wait(10)
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.close()
        self._nursery.wait(20)
        self._nursery.stdout.close()

    def _watch(self) -> None:
        self.status = int(self._read())
        self._ended.set()

    def _write(self, line: str) -> None:
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(line + "\n")
        self._nursery.stdin.flush()

    def _read(self) -> str:
        assert self._nursery.stdout is not None
        line = self._nursery.stdout.readline()
        if not line:
            raise RuntimeError("the nursery has ended")
        return line


class _Crowd:
    """The users, each in a thread, between whose rounds the server is killed."""

    def __init__(self, users: list[User]) -> None:
        self._users = users
        self._settled = threading.Barrier(len(users) + 1)
        self._stop = threading.Event()
        self._look_at_all = threading.Event()
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(user,), daemon=True) for user in users]
        for thread in self._threads:
            thread.start()

    def settle(self, *, look_at_all: bool) -> None:
        """Wait until everybody has looked at what is there, and is at work again; the server must be up."""
        if look_at_all:
            self._look_at_all.set()
        self._settled.wait(_DEADLINE_SECONDS)  # the server is up
        self._settled.wait(_DEADLINE_SECONDS)  # everybody has looked
        self._look_at_all.clear()

    def finish(self) -> None:
        """Wait until all users have finished; the server must stay up."""
        self._stop.set()
        self.settle(look_at_all=True)
        for thread in self._threads:
            thread.join(_DEADLINE_SECONDS)

    def abort(self) -> None:
        """Stop all waits."""
        self._stop.set()
        self._settled.abort()

    def _work(self, user: User) -> None:
        try:
            while True:
                self._settled.wait(_DEADLINE_SECONDS)
                is_up = self._look(user)
                self._settled.wait(_DEADLINE_SECONDS)
                if self._stop.is_set() and is_up:
                    return
                while is_up:
                    is_up = self._act(user)
        except threading.BrokenBarrierError:
            pass
        except Exception as error:
            self.errors.append(f"{user.name} cannot continue: {error!r}")
            self._settled.abort()
            raise

    def _look(self, user: User) -> bool:
        try:
            user.look_at_all() if self._look_at_all.is_set() else user.look_at_fresh()
            user.finish_jobs(_patience(_DEADLINE_SECONDS if self._stop.is_set() else 0.0))
            if self._stop.is_set():
                user.look_at_all()
        except Lost:
            user.close()
            return False
        return True

    @staticmethod
    def _act(user: User) -> bool:
        try:
            user.act()
        except Lost:
            user.close()
            return False
        return True


def kill_at_random(folder: Path, plan: Plan, progress: Callable[[str], None]) -> Findings:
    """Run the plan in a folder."""
    rng = random.Random(plan.seed)
    findings = Findings()
    names = [f"user{number}" for number in range(plan.users)]
    outside = folder / "outside"
    outside.mkdir(parents=True)
    installation = install(folder, {name: [name] for name in names})
    shim = Shim(outside)
    users = [User(name, installation, str(plan.seed), findings.figures) for name in names]
    server = Server(installation, shim, outside)
    began = time.monotonic()
    crowd: _Crowd | None = None
    try:
        shim.watch(installation.data)
        while not server.start():
            pass
        crowd = _Crowd(users)
        for number in range(1, plan.kills + 1):
            crowd.settle(look_at_all=number % plan.full_look == 0)
            findings.calls += _strike(server, shim, plan, rng, findings)
            if number % plan.full_look == 0:
                progress(f"{number} kills, {sum(findings.figures.done.values())} operations, {_count(findings)} faults")
        crowd.finish()
    finally:
        if crowd is not None:
            crowd.abort()
            findings.faults += crowd.errors
        server.close()
        for user in users:
            user.close()
    findings.seconds = time.monotonic() - began
    findings.faults += findings.figures.faults
    findings.faults += [f"the server logged {line}" for line in _errors(outside / "serve.log")]
    return findings


def _strike(server: Server, shim: Shim, plan: Plan, rng: random.Random, findings: Findings) -> int:
    """Kill the server once, or while it starts twice, and start it again; returns the calls up to then."""
    shim.arm(shim.count + rng.randint(1, plan.farthest), Injection(KILL, torn=rng.random() < 0.3))
    if not server.wait(_DEADLINE_SECONDS):
        raise RuntimeError(f"no call was made for {_DEADLINE_SECONDS:g} s")
    calls = shim.count
    _count_kill(server, shim, findings)
    again = rng.random() < plan.at_start
    shim.watch(shim.folder)
    if again:
        shim.arm(rng.randint(1, 80), Injection(KILL))
    while not server.start():
        _count_kill(server, shim, findings)
        findings.starting += 1
        shim.watch(shim.folder)
    shim.disarm()
    return calls


def _count_kill(server: Server, shim: Shim, findings: Findings) -> None:
    if not shim.hits:
        raise RuntimeError(f"the server has ended by itself with {server.status}")
    findings.kills += 1
    _, path = shim.struck
    findings.areas[_area(path)] += 1


def _area(path: str) -> str:
    if "tagferry.db" in path:
        return "the database"
    return next((area for area in _AREAS if f"/{area}" in path), "other files")


def _count(findings: Findings) -> int:
    return len(findings.faults) + len(findings.figures.faults)


def _errors(log: Path) -> Iterator[str]:
    for line in log.read_text(errors="replace").splitlines():
        if '"level": "error"' in line or "Traceback" in line:
            yield line[:500]


def _patience(seconds: float) -> Callable[[], bool]:
    deadline = time.monotonic() + seconds

    def wait() -> bool:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
        return True

    return wait
