"""The records of jobs compared with a model, with two workers that claim and end jobs and are lost, and restarts.

A job's state is the model's after each step, no two workers run the same job, two jobs that write the same tag do not
run at once, and in the end every accepted job has ended. `FAULTS_EXAMPLES=1000` runs more examples.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tagferry.accounts.model import Caller
from tagferry.coordination.backend import coordination_of
from tagferry.coordination.pubsub import message_bus_of
from tagferry.db.engine import Database
from tagferry.names import Namespace, RegionId, Repository, Tag
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.model import JobStatus, JobUpdate, NewJob, SyncRequest
from tagferry.sync.jobs.queue import JobQueue
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.store import JobStore
from tests.support.schemas import sqlite_in

Result = TypeVar("Result")

_NORTH, _SOUTH = RegionId("cn-north-4"), RegionId("cn-south-1")
_TEAM, _APP = Namespace("team"), Repository("app")
_CALLER = Caller(user_id="u" * 32, name="carol", domain_id="d" * 32, domain_name="acme", is_admin=False)
_MANY = 1000
_OPEN = (JobStatus.WAITING, JobStatus.RUNNING)

workers = st.sampled_from((1, 2))
endings = st.sampled_from([status for status in JobStatus if status.has_ended])


@dataclass
class Job:
    """The model of a job."""

    tag: Tag
    override: bool
    status: JobStatus = JobStatus.WAITING
    worker: int | None = None

    @property
    def is_open(self) -> bool:
        return self.status in _OPEN


class JobMachine(RuleBasedStateMachine):
    """The model: every job by its id."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tagferry-machine-"))
        self.url = sqlite_in(self.folder)
        self.runner = asyncio.Runner()
        self.known: dict[int, Job] = {}
        self.calls = 0
        self._open()

    def _open(self) -> None:
        self.database = Database(self.url)
        bus = message_bus_of(self.database, Supervisor())
        self.jobs = JobStore(self.database, bus)
        self.queue = JobQueue(self.database, bus, coordination_of(self.database), regions=[_NORTH, _SOUTH])

    def run(self, work: Awaitable[Result]) -> Result:
        async def wait() -> Result:
            return await work

        return self.runner.run(wait())

    def teardown(self) -> None:
        try:
            self._bring_everything_to_its_end()
        finally:
            self.run(self.database.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    @rule(tags=st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True), override=st.booleans())
    def create(self, tags: list[str], override: bool) -> None:
        self.calls += 1
        wanted = SyncRequest(
            id=f"call-{self.calls}",
            caller=_CALLER,
            source_region=_NORTH,
            namespace=_TEAM,
            repository=_APP,
            tags=tuple(map(Tag, tags)),
            target_region=_SOUTH,
            target_namespace=Namespace("release"),
            override=override,
        )
        made = self.run(
            self.jobs.create(wanted, [NewJob(tag) for tag in wanted.tags], max_concurrent_requests_per_user=_MANY)
        )
        assert set(made) == set(wanted.tags)
        for tag, place in made.items():
            standing = [number for number, job in self.known.items() if job.is_open and job.tag == tag]
            if place.id in self.known:
                assert place.id == max(standing)
                assert self.known[place.id].override == override
            else:
                assert not standing or self.known[max(standing)].override != override
                self.known[place.id] = Job(tag, override)

    @rule(worker=workers, places=st.integers(1, 4))
    def claim(self, worker: int, places: int) -> None:
        claimed = self.run(self.queue.claim(worker, places))
        assert len(claimed) <= places
        for one in claimed:
            job = self.known[one.id]
            assert job.status is JobStatus.WAITING
            assert not [other for other in self.known.values() if other.tag == job.tag and other.worker is not None]
            job.status, job.worker = JobStatus.RUNNING, worker

    @rule(worker=workers, status=endings, data=st.data())
    def end(self, worker: int, status: JobStatus, data: st.DataObject) -> None:
        if not self.known:
            return
        number = data.draw(st.sampled_from(sorted(self.known)))
        self.run(self.jobs.end(JobUpdate(number, status), worker_id=worker))
        job = self.known[number]
        if job.status is JobStatus.RUNNING and job.worker == worker:
            job.status, job.worker = status, None

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if not self.known:
            return
        number = data.draw(st.sampled_from(sorted(self.known)))
        cancelled = self.run(self.jobs.cancel([number], reason="asked for"))
        job = self.known[number]
        assert cancelled == ([number] if job.is_open else [])
        if job.is_open:
            job.status, job.worker = JobStatus.CANCEL, None

    @rule(worker=workers)
    def lose_a_worker(self, worker: int) -> None:
        self.run(self.queue.release(worker))
        for job in self.known.values():
            if job.worker == worker:
                job.status, job.worker = JobStatus.WAITING, None

    @rule()
    def restart(self) -> None:
        self.run(self.database.close())
        self._open()

    @rule()
    def do_what_is_done_now_and_then(self) -> None:
        self.run(self.jobs.expire())
        self.run(self.jobs.resume())
        self.run(self.jobs.unblock())

    @invariant()
    def every_record_is_the_model_s(self) -> None:
        assert self._statuses() == {number: job.status for number, job in self.known.items()}

    def _statuses(self) -> dict[int, JobStatus]:
        found, _ = self.run(RepositoryJobs(self.database).of_repository(_NORTH, _TEAM, _APP, limit=None))
        return {job.id: job.status for job in found}

    def _bring_everything_to_its_end(self) -> None:
        """Every waiting job is claimed and ends, one after the other on the same route."""
        for worker in (1, 2):
            self.lose_a_worker(worker)
        for _ in range(len(self.known) + 1):
            for one in self.run(self.queue.claim(1, _MANY)):
                self.run(self.jobs.end(JobUpdate(one.id, JobStatus.SUCCESS), worker_id=1))
        assert [number for number, status in self._statuses().items() if status in _OPEN] == []


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(
    max_examples=int(os.environ.get("FAULTS_EXAMPLES", "50")),
    stateful_step_count=25,
    deadline=None,
    # To explain a failure, each line is traced, which takes longer than all else.
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[*HealthCheck],
)
