"""Three ways to lose a worker at the same time: it is killed, stopped, or cut off from the database.

A fourth worker takes over. The registries distinguish the workers by their addresses.
"""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.killing import separate_networks as networks
from tests.faults.killing.cluster import START_SECONDS, TARGET, Cluster, Program, cluster, configuration
from tests.faults.killing.jobs import Job, JobTable, Loss
from tests.faults.killing.registry import RegistryClient
from tests.faults.killing.traffic import Request, Traffic, completed_uploads, written_tags
from tests.support.docker_registry import docker_registry
from tests.support.images import SampleImage, image
from tests.support.postgres import postgres_server
from tests.support.processes import free_port

_MIB = 1024 * 1024
_ORGANIZATION = "team"
_LARGE, _RATE = 64 * _MIB, 3 * _MIB
_JOBS_EACH = 2
_STOPPED_SECONDS = 45.0
"""Longer than any worker waits before it takes over from a lost one."""
_END_SECONDS = 180.0


@dataclass
class LossFindings:
    """The results; times in seconds since the faults began, all at once.

    Attributes:
        killed: the jobs of the killed worker, and when they ran again.
        cut_off: the same of the worker that was cut off from the database.
        cut_off_last: when the cut-off worker's last request to a registry ended.
        stopped: the jobs of the stopped worker; none may run elsewhere.
        small: the time of requests from sending to their job's end, while the faults lasted.
        faults: violations.
    """

    killed: Loss | None = None
    cut_off: Loss | None = None
    cut_off_last: float = 0.0
    stopped: list[Job] = field(default_factory=list)
    stopped_ended: list[float] = field(default_factory=list)
    small: list[float] = field(default_factory=list)
    came_back: float | None = None
    jobs: int = 0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[tuple[str, str]]:
        """For people."""
        for name, loss in (("killed", self.killed), ("cut off from the database", self.cut_off)):
            if loss is not None:
                seconds = ", ".join(f"{each:.1f} s" for each in loss.seconds)
                yield f"{name}: its jobs ran elsewhere after", seconds or "never"
        yield "cut off: its last request to a registry ended after", f"{self.cut_off_last:.1f} s"
        yield "cut off: it worked again, after the fault had ended", f"{self.came_back or 0:.1f} s"
        yield (
            f"stopped for {_STOPPED_SECONDS:g} s: started elsewhere",
            str(sum(1 for job in self.stopped if job.starts > 1)),
        )
        yield "stopped: its jobs ended after", ", ".join(f"{each:.1f} s" for each in self.stopped_ended)
        if self.small:
            yield (
                "small requests during the faults",
                f"{len(self.small)}, the slowest took {max(self.small):.1f} s",
            )
        yield "jobs in all", str(self.jobs)
        yield "faults (lost, failed, sent twice, written late)", str(len(self.faults))


def lose_workers(folder: Path, seed: int, progress: Callable[[str], None]) -> LossFindings:
    """Run it; the caller's process is in its own network namespace."""
    networks.prepare()
    findings = LossFindings()
    rng = random.Random(seed)
    with ExitStack() as stack:
        server = stack.enter_context(
            postgres_server(addresses=("127.0.0.1", networks.DATABASE), trusted=(networks.WORKERS,))
        )
        folders = {name: folder / name for name in ("source", "target")}
        for each in folders.values():
            each.mkdir(parents=True)
        source, target = (
            stack.enter_context(docker_registry(each, host=networks.REGISTRIES)) for each in folders.values()
        )
        traffic = [stack.enter_context(Traffic(each / "registry.log")) for each in folders.values()]
        url = server.url(server.new_database())
        config = configuration(
            url=f"http://127.0.0.1:{free_port()}", source=source.url, target=target.url, bytes_per_second=_RATE
        )
        listen = config.split('listen = "')[1].split('"')[0]
        installed = stack.enter_context(
            cluster(folder / "tagferry", config, f"http://{listen}", url.replace("127.0.0.1", networks.DATABASE))
        )
        table = stack.enter_context(JobTable(url))
        images = {f"large{n}": image(rng.randbytes(_LARGE), seed=f"{seed} {n}") for n in range(3 * _JOBS_EACH)}
        with RegistryClient(source.url) as client:
            for repository, sample in images.items():
                client.push(f"{_ORGANIZATION}/{repository}", sample, "v1")
        installed.serve("--max-concurrent-tags", "0")
        workers = [_worker(installed, number, _JOBS_EACH) for number in range(3)]
        _run(_Scene(installed, table, workers, traffic, source.url, target.url, images, rng), findings, progress)
    return findings


@dataclass
class _Scene:
    cluster: Cluster
    table: JobTable
    workers: list[tuple[Program, str]]
    traffic: list[Traffic]
    source: str
    target: str
    images: dict[str, SampleImage]
    rng: random.Random

    @property
    def requests(self) -> list[Request]:
        return [request for traffic in self.traffic for request in traffic.requests]

    def order(self, repository: str) -> list[int]:
        body = {"imageTag": ["v1"], "remoteNamespace": _ORGANIZATION, "remoteRegionId": TARGET}
        return self.cluster.request(_ORGANIZATION, repository, body)


def _run(scene: _Scene, findings: LossFindings, progress: Callable[[str], None]) -> None:
    table, (killed, stopped, cut_off) = scene.table, (program for program, _ in scene.workers)
    accepted = [job_id for repository in scene.images for job_id in scene.order(repository)]
    _wait(lambda: sum(job.status == "running" for job in table.jobs()) == len(accepted), "all jobs run", 30)
    _worker(scene.cluster, 3, 16)
    time.sleep(scene.rng.uniform(0.5, 2.5))
    ids = {program.id: table.worker(program.id) for program in (killed, stopped, cut_off)}

    progress(f"three workers are lost at once, each with {_JOBS_EACH} jobs under way")
    began = time.time()
    networks.cut_off(2, cut_off.id)
    stopped.process.send_signal(signal.SIGSTOP)
    scene.cluster.kill(killed)
    findings.killed = table.lose(ids[killed.id], began)
    findings.cut_off = table.lose(ids[cut_off.id], began)
    standing = [job.id for job in table.jobs() if job.worker_id == ids[stopped.id]]

    done = threading.Event()
    small = threading.Thread(target=_send_small, args=(scene, findings, done))
    small.start()
    try:
        losses = (findings.killed, findings.cut_off)
        until = began + _STOPPED_SECONDS
        while time.time() < until:
            time.sleep(0.2)
        address = scene.workers[2][1]
        findings.cut_off_last = max(
            (request.seen_at - began for request in scene.requests if request.client == address), default=0.0
        )
        findings.stopped = [job for job in table.jobs() if job.id in standing]
        progress("the stopped worker continues, and the cut-off one reaches its database again")
        healed = time.time()
        networks.heal(2, cut_off.id)
        stopped.process.send_signal(signal.SIGCONT)
        _wait(lambda: (table.worker(cut_off.id) or 0) > (ids[cut_off.id] or 0), "the cut-off worker is back", 60)
        findings.came_back = time.time() - healed
    finally:
        done.set()
        small.join(60)
    _wait(lambda: not any(job.is_open for job in table.jobs()), "all jobs have ended", _END_SECONDS)
    jobs = table.jobs()
    ends = table.ends(standing)
    findings.stopped_ended = [at - began for at in ends]
    findings.stopped = [job for job in jobs if job.id in standing]
    findings.jobs = len(jobs)
    _judge(scene, findings, accepted, jobs, losses, began)


def _judge(
    scene: _Scene, findings: LossFindings, accepted: list[int], jobs: list[Job], losses: tuple[Loss, ...], began: float
) -> None:
    faults = findings.faults
    if lost := set(accepted) - {job.id for job in jobs}:
        faults.append(f"accepted, but not recorded: {sorted(lost)}")
    faults += [f"did not succeed: {job}" for job in jobs if job.status != "success"]
    faults += [
        f"no worker took over {set(loss.starts) - set(loss.again)}"
        for loss in losses
        if set(loss.starts) - set(loss.again)
    ]
    faults += [f"only {len(loss.starts)} jobs were running" for loss in losses if len(loss.starts) != _JOBS_EACH]
    faults += [
        f"was started elsewhere while its worker was stopped: {job}" for job in findings.stopped if job.starts > 1
    ]
    cut_off = losses[1]
    if cut_off.again and findings.cut_off_last >= min(cut_off.again.values()) - began:
        faults.append(
            f"the cut-off worker still sent requests after {findings.cut_off_last:.1f} s, when others had taken over"
        )
    requests = scene.traffic[1].requests
    faults += [f"sent {times} times: {blob}" for blob, times in completed_uploads(requests).items() if times > 1]
    faults += [f"written {times} times: {tag}" for tag, times in written_tags(requests).items() if times > 1]
    with RegistryClient(scene.target) as client:
        for repository, sample in scene.images.items():
            seen = client.look(f"{_ORGANIZATION}/{repository}", "v1")
            if seen is None or seen.digest != sample.digest or seen.flaws:
                faults.append(f"{repository} is {seen} instead of {sample.digest}")


def _send_small(scene: _Scene, findings: LossFindings, done: threading.Event) -> None:
    """Synchronize small images all the time, to see that the others keep working."""
    number = 0
    while not done.wait(1.0):
        number += 1
        repository = f"small{number}"
        sample = image(seed=repository)
        with RegistryClient(scene.source) as client:
            client.push(f"{_ORGANIZATION}/{repository}", sample, "v1")
        scene.images[repository] = sample
        begun = time.monotonic()
        (job_id,) = scene.order(repository)
        while any(job.id == job_id and job.is_open for job in scene.table.jobs()):
            if time.monotonic() > begun + _END_SECONDS:
                findings.faults.append(f"a small request did not end within {_END_SECONDS:g} s")
                return
            time.sleep(0.05)
        findings.small.append(time.monotonic() - begun)


def _worker(installed: Cluster, number: int, places: int) -> tuple[Program, str]:
    """Start a worker in its own network; returns it with its address."""
    program = installed.start(
        "worker", "--max-concurrent-tags", str(places), prefix=networks.IN_OWN_NETWORK, stdin=subprocess.PIPE
    )
    _wait(lambda: _has_own_network(program.id), "the worker's network", 10)
    address = networks.connect(number, program.id)
    assert program.process.stdin is not None
    program.process.stdin.write(b"go\n")
    program.process.stdin.close()
    _wait(lambda: program.is_working, "the worker works", START_SECONDS)
    return program, address


def _has_own_network(process_id: int) -> bool:
    ours, theirs = (Path(f"/proc/{each}/ns/net").readlink() for each in ("self", process_id))
    return ours != theirs


def _wait(check: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.05)
