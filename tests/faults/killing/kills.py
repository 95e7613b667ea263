"""kill -9 at random moments of syncs, and checks that nothing is lost, seen in part or done twice.

With SQLite the one `tagferry serve` is killed and started again; with PostgreSQL one of three `tagferry worker`, while
a `tagferry serve` accepts. Every round has fresh images and its own organization.
"""

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.killing.cluster import Cluster, Program, cluster, configuration
from tests.faults.killing.jobs import JobTable, Loss
from tests.faults.killing.observer import Observer
from tests.faults.killing.rounds import Registries, Round, new_round
from tests.faults.killing.traffic import Traffic, broken_uploads, completed_uploads, written_tags
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.postgres import postgres_server
from tests.support.processes import free_port

_WORKERS = 3
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """The options of a run.

    Attributes:
        kills: the number of kills.
        seed: determines moments, victims and contents.
        large: bytes of each round's large layer.
        bytes_per_second: the rate to the target, so that the large layer takes its time.
        kills_a_round: the minimum number of kills in each round.
        rounds_at_once: the maximum number of concurrent rounds.
        calm_rounds: rounds without a kill at the beginning; the last one shows how long one takes.
    """

    kills: int
    seed: int
    large: int = 64 * _MIB
    bytes_per_second: int = 24 * _MIB
    kills_a_round: int = 1
    rounds_at_once: int = 1
    calm_rounds: int = 2


@dataclass
class Findings:
    """The results of a run.

    Attributes:
        undisturbed: seconds that a round takes without a kill.
        losses: one for each kill.
        faults: violations.
    """

    undisturbed: float = 0.0
    rounds: int = 0
    requests: int = 0
    jobs: int = 0
    refused: int = 0
    losses: list[Loss] = field(default_factory=list)
    bytes_needed: int = 0
    bytes_received: int = 0
    broken_uploads: int = 0
    looks: int = 0
    sightings: int = 0
    asked_again: int = 0
    duplicates: int = 0
    rewritten_tags: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[tuple[str, str]]:
        """For people."""
        again = [seconds for loss in self.losses for seconds in loss.seconds]
        yield "kills", f"{len(self.losses)}, of which {sum(1 for loss in self.losses if loss.starts)} hit running jobs"
        yield "jobs that a kill hit", str(sum(len(loss.starts) for loss in self.losses))
        yield "uploads that a kill cut off", str(self.broken_uploads)
        yield "rounds", f"{self.rounds} of {self.undisturbed:.1f} s each if undisturbed, {self.seconds:.0f} s in all"
        yield "requests accepted", f"{self.requests}, {self.jobs} jobs; {self.refused} were sent again"
        if again:
            yield (
                "from a kill until its jobs ran again",
                f"median {statistics.median(again):.1f} s, least {min(again):.1f} s, most {max(again):.1f} s",
            )
        yield (
            "bytes that the target received",
            f"{self.bytes_received / _MIB:.0f} MiB; {self.bytes_needed / _MIB:.0f} MiB were needed",
        )
        yield "blobs sent again after they had arrived", str(self.duplicates)
        yield "tags written again", str(self.rewritten_tags)
        yield (
            "looks at tags",
            f"{self.looks}, {self.sightings} of them found one; {self.asked_again} answers were a 5xx",
        )
        yield "faults (lost, partial, failed, sent twice)", str(len(self.faults))


@dataclass
class _Stage:
    """The resources of a run."""

    plan: Plan
    rng: random.Random
    registries: Registries
    cluster: Cluster
    table: JobTable
    observer: Observer
    findings: Findings = field(default_factory=Findings)
    rounds: list[Round] = field(default_factory=list)

    def begin_round(self, seconds: float) -> Round:
        """Start a round once there are not too many."""
        while len(self.rounds) >= self.plan.rounds_at_once:
            self.end_round()
        number = self.findings.rounds = self.findings.rounds + 1
        fresh = new_round(number, self.registries, self.rng, large=self.plan.large)
        fresh.prepare()
        self.observer.watch(fresh.organization, fresh.watched())
        fresh.begin(self.cluster, seconds)
        self.rounds.append(fresh)
        return fresh

    def end_round(self) -> None:
        """Wait for the end of the oldest round, and check it."""
        ended = self.rounds.pop(0)
        findings, faults = self.findings, self.findings.faults
        jobs = ended.finish(self.table)
        findings.requests += len(ended.orders)
        findings.jobs += len(jobs)
        findings.bytes_needed += sum(ended.needed.values())
        if forgotten := ended.job_ids - {job.id for job in jobs}:
            faults.append(f"accepted, but not recorded: jobs {sorted(forgotten)}")
        faults += [f"did not succeed: {job}" for job in jobs if job.status != "success"]
        self.observer.forget(ended.organization)
        for watched in ended.watched():
            digest, flaws = self.observer.inspect(watched)
            if digest != watched.digest:
                faults.append(f"{watched.repository}:{watched.tag} is {digest} instead of {watched.digest}")
            faults += flaws
        ended.remove()


def kill_served(folder: Path, plan: Plan, progress: Callable[[str], None]) -> Findings:
    """SQLite: kill the one process, which also has an embedded registry."""
    with _stage(folder, plan) as (stage, traffic, target):
        served = stage.cluster.serve()
        assert stage.cluster.secrets is not None
        stage.registries = Registries(**{**vars(stage.registries), "login": ("admin", stage.cluster.secrets.password)})

        def strike() -> None:
            nonlocal served
            worker = stage.table.worker(served.id)
            stage.cluster.kill(served)
            stage.findings.losses.append(stage.table.lose(worker, time.time()))
            served = stage.cluster.serve()

        _run(stage, traffic, target, strike, progress)
    return stage.findings


def kill_workers(folder: Path, plan: Plan, progress: Callable[[str], None]) -> Findings:
    """PostgreSQL: kill one of three workers each time; another one is started at once."""
    with postgres_server() as server:
        url = server.url(server.new_database())
        with _stage(folder, plan, database_url=url) as (stage, traffic, target):
            stage.cluster.serve("--max-concurrent-tags", "0")
            workers = [stage.cluster.start("worker") for _ in range(_WORKERS)]
            _wait_until_all_work(workers)

            def strike() -> None:
                victim = stage.rng.choice(workers)
                worker = stage.table.worker(victim.id)
                stage.cluster.kill(victim)
                stage.findings.losses.append(stage.table.lose(worker, time.time()))
                workers[workers.index(victim)] = stage.cluster.start("worker")

            _run(stage, traffic, target, strike, progress)
    return stage.findings


@contextmanager
def _stage(folder: Path, plan: Plan, *, database_url: str = "") -> Iterator[tuple[_Stage, Traffic, DockerRegistry]]:
    with ExitStack() as stack:
        folders = (folder / "source", folder / "target")
        for each in folders:
            each.mkdir(parents=True)
        source, target = (stack.enter_context(docker_registry(each)) for each in folders)
        url = f"http://127.0.0.1:{free_port()}"
        embedded = None if database_url else f"http://127.0.0.1:{free_port()}"
        config = configuration(
            url=url,
            source=source.url,
            target=target.url,
            bytes_per_second=plan.bytes_per_second,
            embedded=embedded,
            # Few slots spread the jobs over the workers.
            places=3 if database_url else 16,
        )
        installed = stack.enter_context(cluster(folder / "tagferry", config, url, database_url))
        table = stack.enter_context(
            JobTable(database_url or f"sqlite:///{(folder / 'tagferry/data/tagferry.db').absolute()}")
        )
        traffic = stack.enter_context(Traffic(folder / "target/registry.log"))
        observer = stack.enter_context(Observer())
        registries = Registries(source=source.url, target=target.url, folders=folders, embedded=embedded)
        yield _Stage(plan, random.Random(plan.seed), registries, installed, table, observer), traffic, target


def _run(
    stage: _Stage, traffic: Traffic, target: DockerRegistry, strike: Callable[[], None], progress: Callable[[str], None]
) -> None:
    plan, findings, rng = stage.plan, stage.findings, stage.rng
    begun = time.monotonic()
    for _ in range(plan.calm_rounds):
        calm = stage.begin_round(0.0)
        while stage.rounds:
            stage.end_round()
        findings.undisturbed = time.time() - calm.began
    received_before, needed_before = target.bytes_read, findings.bytes_needed
    progress(f"a round takes {findings.undisturbed:.1f} s undisturbed")
    prepared = 0
    while len(findings.losses) < plan.kills:
        stage.begin_round(findings.undisturbed * 0.8)
        standing = stage.rounds[-1].standing.values()
        prepared += sum(len(content) for sample in standing for content in sample.all_blobs.values())
        for _ in range(min(plan.kills_a_round, plan.kills - len(findings.losses))):
            time.sleep(rng.uniform(0.0, findings.undisturbed))
            strike()
            loss = findings.losses[-1]
            progress(f"round {findings.rounds}, kill {len(findings.losses)}: {len(loss.starts)} jobs were running")
    while stage.rounds:
        stage.end_round()
    findings.seconds = time.monotonic() - begun
    findings.bytes_received = target.bytes_read - received_before - prepared
    findings.bytes_needed -= needed_before
    findings.refused = stage.cluster.refused
    _judge_traffic(findings, traffic)
    _judge_observer(findings, stage.observer)
    findings.faults += [
        f"no worker took over job {job_id}"
        for loss in findings.losses
        for job_id in loss.starts.keys() - loss.again.keys()
        if job_id in {job.id for job in stage.table.jobs() if job.is_open}
    ]


def _judge_traffic(findings: Findings, traffic: Traffic) -> None:
    requests = traffic.requests
    findings.broken_uploads = broken_uploads(requests)
    uploads, tags = completed_uploads(requests), written_tags(requests)
    findings.duplicates, findings.rewritten_tags = _more_than_once(uploads), _more_than_once(tags)
    findings.faults += [f"sent {times} times: {blob}" for blob, times in uploads.items() if times > 1]
    findings.faults += [f"written {times} times: {tag}" for tag, times in tags.items() if times > 1]


def _judge_observer(findings: Findings, observer: Observer) -> None:
    findings.looks, findings.sightings = observer.looks, observer.sightings
    findings.asked_again = observer.asked_again
    findings.faults += [f"seen in part: {flaw}" for flaw in observer.partial]


def _more_than_once(counted: Counter[tuple[str, str]]) -> int:
    return counted.total() - len(counted)


def _wait_until_all_work(workers: list[Program]) -> None:
    deadline = time.monotonic() + 60
    while not all(worker.is_working for worker in workers):
        if time.monotonic() > deadline:
            raise RuntimeError("the workers did not come up")
        time.sleep(0.05)
