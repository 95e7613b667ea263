"""A server under attack, a well-behaved client beside it, and the measurements."""

import asyncio
import base64
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.served import clean_environment
from tests.faults.attacks.hostile import Hostile
from tests.faults.attacks.tenant import ADDRESS
from tests.faults.caller import Answer, Caller, Lost
from tests.faults.calls.shim import Shim
from tests.faults.installation import NORTH, SOUTH, Installation, Login, install
from tests.support.images import SampleImage, image
from tests.support.processes import free_port
from tests.support.raw_client import RawClient, connected

HOSTILE = "hostile"
HONEST, MALLORY = "honest", "mallory"
ATTACKER = "127.0.0.66"
_MIB = 1024 * 1024
_JOB_SECONDS = 30.0
_THREADS = 128
_ATTACKER_NICE = 10
_PLACED = image(b"placed layer", seed="placed")


@dataclass
class Outcome:
    """The outcome of an attack.

    Attributes:
        tried: the number of tries.
        seen: responses and other observations, counted.
        again: wasted bytes.
        wrong: the number of contents that were served wrong.
        failed: violations.
    """

    tried: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    again: int = 0
    wrong: int = 0
    failed: list[str] = field(default_factory=list)

    def saw(self, what: object, count: int = 1) -> None:
        """Count a try with its result."""
        self.tried += count
        self.seen[str(what)] += count

    def add(self, other: "Outcome") -> None:
        """Add the outcome of another try."""
        self.tried += other.tried
        self.seen += other.seen
        self.again += other.again
        self.wrong += other.wrong
        self.failed += other.failed


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: a few words.
        run: runs it for about the given seconds.
        short: whether the tests run it, too.
        with_shim: whether it makes calls to the disk fail, or sets the time, for which the server needs the shim.
        unsigned: whether the client signs nothing meanwhile, since signatures have dates.
        repeats: whether it can be repeated until the time is over.
        stops: whether syncs may be refused from then on.
    """

    name: str
    run: "Callable[[Stage, float], Awaitable[Outcome]]"
    short: bool = False
    with_shim: bool = False
    unsigned: bool = False
    repeats: bool = False
    stops: bool = False


@dataclass(frozen=True)
class Row:
    """A line of the table: an attack and the measurements.

    Attributes:
        hung: whether a sync of the client did not end afterwards.
        peak: resident bytes at the peak.
        seconds: the duration of each of the client's requests.
        failures: its failed requests.
    """

    attack: str
    outcome: Outcome
    hung: bool
    resting: int
    peak: int
    seconds: list[float]
    failures: Counter[str]

    @property
    def cells(self) -> tuple[str, ...]:
        """For people."""
        seen = ", ".join(f"{count} x {what}" for what, count in self.outcome.seen.most_common(4))
        milliseconds = sorted(1000 * one for one in self.seconds)
        p99 = milliseconds[min(len(milliseconds) - 1, int(len(milliseconds) * 0.99))] if milliseconds else float("nan")
        return (
            self.attack,
            str(self.outcome.tried),
            seen + "".join(f"; FAILED: {one}" for one in self.outcome.failed),
            f"{self.outcome.again / _MIB:.1f} MiB",
            str(self.outcome.wrong),
            str(int(self.hung)),
            f"{self.resting / _MIB:.0f} to {self.peak / _MIB:.0f} MiB",
            f"{statistics.median(milliseconds):.0f} / {p99:.0f} / {milliseconds[-1]:.0f} ms" if milliseconds else "-",
            f"{sum(self.failures.values())}" + (f" ({self.failures.most_common(1)[0][0]})" if self.failures else ""),
            str(len(self.seconds)),
        )


HEADINGS = (
    "attack",
    "tried",
    "outcome",
    "wasted bytes",
    "wrong",
    "hung",
    "memory",
    "client p50 / p99 / most",
    "client failures",
    "samples",
)


class Stage:
    """A running server with an organization of the client and one of the attacker, who has a login."""

    def __init__(
        self,
        installation: Installation,
        hostile: Hostile,
        process: "subprocess.Popen[bytes]",
        shim: Shim,
        log: Path,
    ) -> None:
        self.installation = installation
        self.hostile = hostile
        self.process = process
        self.shim = shim
        self.log = log
        self._callers: list[Caller] = []

    def close(self) -> None:
        """Close the connections."""
        for caller in self._callers:
            caller.close()

    @property
    def url(self) -> str:
        return self.installation.urls[NORTH]

    def caller(self, user: str = MALLORY, *, region: str = NORTH) -> Caller:
        """Return a client of a user, with an address of its own."""
        source = ADDRESS if user == HONEST else ATTACKER
        url = self.installation.urls.get(region) or self.installation.elsewhere[region]
        caller = Caller(url, self.installation.logins[user], source=source)
        self._callers.append(caller)
        return caller

    def basic(self, user: str = MALLORY) -> bytes:
        """Return the lines of a head for a request of a user."""
        login = self.installation.logins[user]
        return self.head(login.name, login.password)

    def head(self, name: str, password: str) -> bytes:
        """Return the lines of a head for a request with these credentials."""
        basic = base64.b64encode(f"{name}:{password}".encode()).decode()
        return f"Host: {self.url.partition('://')[2]}\r\nAuthorization: Basic {basic}\r\n".encode()

    def connect(self, source: str = ATTACKER, **more: Any) -> AbstractAsyncContextManager[RawClient]:
        """Open a raw connection of the attacker."""
        return connected(self.url, source=source, **more)

    async def push(self, repository: str, tag: str, sample: SampleImage, user: str = MALLORY) -> Answer:
        """Push an image; returns the response to its manifest."""
        return await asyncio.to_thread(push, self.caller(user), repository, tag, sample)

    async def start_sync(
        self, repository: str, tags: Iterable[str], *, to: str = SOUTH, user: str = MALLORY, at: str = NORTH
    ) -> Answer:
        """Request a sync without waiting for it."""
        organization, _, name = repository.partition("/")
        body = {"imageTag": [*tags], "remoteNamespace": organization, "remoteRegionId": to}
        path = f"/v2/manage/namespaces/{organization}/repos/{name}/sync_images"
        caller = self.caller(user, region=at)
        return await asyncio.to_thread(caller.management, "POST", path, body, Prefer="respond-async")

    async def job_ended(
        self, repository: str, started: Answer, *, user: str, at: str = NORTH, seconds: float, or_failed: bool = False
    ) -> str:
        """Return the status of a response's first job when it ends, or after the given seconds.

        With `or_failed`, "tried again" counts as an end: the first attempt has failed, and the job waits for the next.
        """
        organization, _, name = repository.partition("/")
        number = started.document["jobs"][0]["id"]
        path = f"/v2/manage/namespaces/{organization}/repos/{name}/sync_job?filter=jobs%3A%3A{number}"
        caller, deadline = self.caller(user, region=at), time.monotonic() + seconds
        while True:
            answer = await asyncio.to_thread(caller.management, "GET", path)
            status = answer.document[0]["status"] if answer.status == 200 and answer.document else str(answer.status)
            if or_failed and answer.status == 200 and answer.document and answer.document[0].get("failures"):
                return "tried again"
            if status not in ("waiting", "running") or time.monotonic() > deadline:
                return str(status)
            await asyncio.sleep(0.1)

    async def honest_sync(self, tag: str) -> str:
        """Return how the sync of a new image of the client ends, or that it is refused or lost."""
        try:
            await self.push(f"{HONEST}/app", tag, image(tag.encode(), seed=tag), HONEST)
            started = await self.start_sync(f"{HONEST}/app", [tag], user=HONEST)
            if started.status != 202:
                return "refused"
            return await self.job_ended(f"{HONEST}/app", started, user=HONEST, seconds=_JOB_SECONDS)
        except (Lost, OSError):
            return "lost"

    def memory(self, what: str = "VmRSS") -> int:
        """Return the resident bytes, or with `VmHWM` the peak since the last reset."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"{what}:\s+(\d+)", status)[0]) * 1024

    def forget_peak(self) -> int:
        """Reset the peak; returns the resident bytes."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory()

    def read_bytes(self) -> int:
        """Return the bytes that the server has read."""
        return int(re.findall(r"rchar: (\d+)", Path(f"/proc/{self.process.pid}/io").read_text())[0])


def push(caller: Caller, repository: str, tag: str, sample: SampleImage) -> Answer:
    """Push an image with everything below it; returns the response to the last manifest, or to what failed."""
    for digest, content in sample.all_blobs.items():
        started = caller.registry("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", content)
        if started.status == 202:
            location = started.headers["Location"]
            path = location[location.index("/v2/") :]
            joint = "&" if "?" in path else "?"
            started = caller.registry("PUT", f"{path}{joint}digest={digest}", content)
        if started.status >= 400:
            return started
    answer = None
    for manifest in sample.all_manifests:
        reference = tag if manifest is sample.manifest else manifest.digest
        answer = caller.registry(
            "PUT", f"/v2/{repository}/manifests/{reference}", manifest.raw, Content_Type=manifest.media_type
        )
    assert answer is not None
    return answer


class Theater:
    """Prepares each attack: the same accounts and content, and a fresh server.

    Args:
        folder: for everything.
        hostile: the registry that attacks script.
        python: whose tagferry is attacked.
    """

    def __init__(self, folder: Path, hostile: Hostile, python: Path) -> None:
        self._folder = folder
        self._hostile = hostile
        self._shim = Shim(folder)
        # Calls block, some of them for as long as an attack lasts, and must not delay others.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        template = folder / "template"
        template.mkdir()
        table = (
            f'listen = "127.0.0.1:{free_port()}"\nregistry = "{hostile.url}"\nusername = "robot"\npassword = "s3cret"\n'
            "stall_timeout_seconds = 15"
        )
        self._template = install(
            template, {HONEST: [HONEST], MALLORY: [MALLORY]}, elsewhere={HOSTILE: table}, python=python
        )

    async def play(self, attack: Attack, seconds: float) -> Row:
        """Run an attack, and measure meanwhile."""
        self._hostile.forget()
        async with self._stage(attack) as stage:
            await stage.push(f"{HONEST}/app", "placed", _PLACED, HONEST)
            started = await stage.start_sync(f"{HONEST}/app", ["placed"], user=HONEST)
            await stage.job_ended(f"{HONEST}/app", started, user=HONEST, seconds=60)
            async with _tenant(stage, signs=not attack.unsigned) as tenant:
                resting = stage.forget_peak()
                with _giving_way():
                    outcome = await _carry_out(attack, stage, seconds)
                peak = stage.memory("VmHWM")
            status = await stage.honest_sync("afterwards")
            if status != "success" and not (attack.stops and status == "refused"):
                outcome.failed.append(f"a synchronization afterwards is {status}")
            hung = status in ("waiting", "running", "lost")
            await self._look(stage, outcome)
            return Row(attack.name, outcome, hung, resting, peak, tenant.seconds, tenant.failures)

    async def _look(self, stage: Stage, outcome: Outcome) -> None:
        """Read the client's content."""
        caller = stage.caller(HONEST)
        for digest in (_PLACED.digest, *_PLACED.blobs):
            kind = "manifests" if digest == _PLACED.digest else "blobs"
            try:
                answer = await asyncio.to_thread(caller.registry, "GET", f"/v2/{HONEST}/app/{kind}/{digest}")
            except Lost:
                outcome.failed.append("the honest tenant's image cannot be read afterwards")
                return
            if answer.status == 200 and answer.digest != digest:
                outcome.wrong += 1
            elif answer.status != 200:
                outcome.failed.append(f"the honest tenant's {kind} are answered {answer.status} afterwards")

    @asynccontextmanager
    async def _stage(self, attack: Attack) -> AsyncIterator[Stage]:
        folder = self._folder / re.sub(r"\W+", "-", attack.name)
        shutil.copytree(self._template.folder, folder)
        installation = Installation(
            folder, self._template.python, self._template.urls, self._template.logins, self._template.elsewhere
        )
        self._shim.ignore()
        log = self._folder / f"{folder.name}.log"
        process = installation.start(log, self._shim.environment() if attack.with_shim else {})
        try:
            if not await asyncio.to_thread(installation.wait_until_healthy, lambda: process.poll() is None):
                raise RuntimeError(f"the server did not start: {log.read_text()}")
            with closing(Stage(installation, self._hostile, process, self._shim, log)) as stage:
                yield stage
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder)


async def _carry_out(attack: Attack, stage: Stage, seconds: float) -> Outcome:
    """Run an attack once, or repeatedly if possible, until the time is over or it has succeeded."""
    outcome, deadline = Outcome(), time.monotonic() + seconds
    while True:
        try:
            async with asyncio.timeout(seconds * 4 + 150):
                outcome.add(await attack.run(stage, seconds))
        except (OSError, Lost, TimeoutError, asyncio.IncompleteReadError) as error:
            outcome.failed.append(f"the attack ended with {error!r}")
        if not attack.repeats or outcome.failed or time.monotonic() > deadline:
            return outcome


@contextmanager
def _giving_way() -> Iterator[None]:
    """Lower the priority of the attacker's threads; only root can restore it, so only root does so."""
    if os.geteuid():
        yield
        return
    _set_nice(_ATTACKER_NICE)
    try:
        yield
    finally:
        _set_nice(0)


def _set_nice(nice: int) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)


@dataclass
class _Measured:
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


@asynccontextmanager
async def _tenant(stage: Stage, *, signs: bool) -> AsyncIterator[_Measured]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.attacks.tenant",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment({"PYTHONPATH": str(Path(__file__).parents[3])}),
        limit=64 * _MIB,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    login: Login = stage.installation.logins[HONEST]
    order = {
        "url": stage.url,
        "login": [*vars(login).values()],
        "organization": HONEST,
        "tag": "placed",
        "signs": signs,
    }
    process.stdin.write(json.dumps(order).encode() + b"\n")
    await process.stdout.readline()
    measured = _Measured()
    try:
        yield measured
    finally:
        process.stdin.close()
        said = json.loads(await process.stdout.readline() or b'{"seconds": [], "failures": {}}')
        await process.wait()
        measured.seconds, measured.failures = said["seconds"], Counter(said["failures"])
