"""Measure workloads that copy images from one docker-registry to another."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import RegistryClient
from bench.content import Images
from bench.link import linked
from bench.machine import touch_memory
from bench.measure import Failed, Run, run
from bench.peers import Errand, Peer
from bench.registries import DockerRegistry, docker_registry
from bench.served import ORGANIZATION, served
from bench.works import Work
from tests.support.access_log import Seen

_FLOOR = (sys.executable, "-c", "import asyncio, ssl, uvloop")
_TOUCHED = 512 * 1024**2
"""Bytes of memory that are used before each run; the registries and a program use less, without the page cache."""


@dataclass(frozen=True)
class Sample:
    """One run of one program.

    Attributes:
        requests: those in both registries' access logs.
    """

    run: Run
    requests: tuple[Seen, ...]


@dataclass(frozen=True)
class Outcome:
    """The runs of a workload.

    Attributes:
        samples: by program, in order.
        served: seconds of the same workload as one call of a running server, if that was measured.
        floor: seconds of a Python process that imports what a client of the network needs, and ends.
        failed: the programs that failed once, and made no further run.
    """

    work: Work
    images: Images
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    served: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)


class Bench:
    """One run of the benchmark: a source that gets the images of the workloads, and a folder for everything else."""

    def __init__(self, folder: Path, source: DockerRegistry, programs: Sequence[Peer], runs: int) -> None:
        self._folder = folder
        self._source = source
        self._programs = programs
        self._runs = runs
        self._images: dict[str, Images] = {}

    def measure(self, work: Work) -> Outcome:
        """Make all runs of a workload; the programs take turns."""
        outcome = Outcome(work, self._made(work))
        if work.in_place:
            self._measure_in_place(outcome)
        else:
            for program in self._turns(outcome):
                with docker_registry(self._folder / "target") as target, ExitStack() as links:
                    self._measure_once(outcome, program, target, self._errand(outcome, target, links))
                # Unwritten data of this run must not slow down the next one.
                os.sync()
        return outcome

    def _measure_in_place(self, outcome: Outcome) -> None:
        work, images = outcome.work, outcome.images
        with docker_registry(self._folder / "target") as target, ExitStack() as stack:
            direct = Errand(self._source.address, target.address, images.repository, images.tags, self._folder)
            log = self._folder / "client.log"
            run(self._programs[0].command(direct), log=log, timeout=work.timeout)
            errand = self._errand(outcome, target, stack)
            tagferry = stack.enter_context(served(self._folder / "server", (errand.source, errand.target)))
            repository = images.repository.removeprefix(f"{ORGANIZATION}/")
            tagferry.sync_images(repository, images.tags)
            for program in self._turns(outcome):
                self._measure_once(outcome, program, target, errand)
                if program is self._programs[0]:
                    outcome.served.append(tagferry.sync_images(repository, images.tags))
                    outcome.floor.append(run(_FLOOR, log=log, timeout=work.timeout).wall)

    def _measure_once(self, outcome: Outcome, program: Peer, target: DockerRegistry, errand: Errand) -> None:
        work = outcome.work
        for registry in (self._source, target):
            registry.forget_requests()
        touch_memory(_TOUCHED)
        try:
            measured = run(program.command(errand), log=self._folder / "client.log", timeout=work.timeout)
            requests = (*self._source.requests(), *target.requests())
            self._verify(outcome.images, target)
        except Failed as failure:
            if program.name in ("tagferry", "skopeo"):
                raise
            print(f"{work.key}: {failure}", file=sys.stderr)
            outcome.failed.add(program.name)
            return
        outcome.samples.setdefault(program.name, []).append(Sample(measured, requests))
        print(f"{work.key:12}{program.name:24}{measured.wall:8.2f} s {len(requests):6} requests", file=sys.stderr)

    def _verify(self, images: Images, target: DockerRegistry) -> None:
        with RegistryClient(target.address) as client:
            for tag, digest in images.digests.items():
                found = client.digest_of(images.repository, tag)
                if found != digest:
                    raise Failed(f"{images.repository}:{tag} arrived as {found} instead of {digest}")

    def _turns(self, outcome: Outcome) -> Iterator[Peer]:
        for _ in range(self._runs * outcome.work.repeats):
            yield from (program for program in self._programs if self._runs_again(outcome, program))

    def _runs_again(self, outcome: Outcome, program: Peer) -> bool:
        taken = [sample.run.wall for sample in outcome.samples.get(program.name, ())]
        if program is self._programs[0]:
            return len(taken) < outcome.work.runs
        has_time = not taken or sum(taken) + taken[-1] <= outcome.work.peer_seconds
        return has_time and program.name not in outcome.failed

    def _errand(self, outcome: Outcome, target: DockerRegistry, stack: ExitStack) -> Errand:
        source_address = stack.enter_context(linked(outcome.work.source_link, self._source.address))
        target_address = stack.enter_context(linked(outcome.work.link, target.address))
        return Errand(source_address, target_address, outcome.images.repository, outcome.images.tags, self._folder)

    def _made(self, work: Work) -> Images:
        if work.images not in self._images:
            with RegistryClient(self._source.address) as client:
                self._images[work.images] = work.make(client, f"{ORGANIZATION}/{work.images}")
            os.sync()
        return self._images[work.images]


def room_for(folder: Path, size: int) -> None:
    """Raise Failed if the disk is too small."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise Failed(f"the benchmark needs {size / 1e9:.0f} GB in its temporary folder; {free / 1e9:.0f} GB are free")
