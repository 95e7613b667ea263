"""Jobs of a running tagferry between two registries that answer with faults, and what must hold for them."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tagferry.cli.client import ManagementClient
from tagferry.errors import TagferryError
from tests.faults.registries.faults import DENIED
from tests.faults.registries.rounds import Round, new_round
from tests.faults.registries.storm import Storm
from tests.registries.access import Access
from tests.registries.contents import Ask, Repository
from tests.registries.samples import Sample
from tests.registries.server import Behavior, Registry, listening
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, deployed
from tests.support.scripted_registry import Reply

_OPEN = ("waiting", "running")
_LEFT_ALONE = "existed"
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The options of a soak.

    Attributes:
        seconds: the time during which new jobs are started.
        seed: makes the images and chooses the faults.
        rate: the share of requests that meet a fault.
        away_seconds: how long a registry is unavailable, once in each minute.
        at_once: the number of open requests to tagferry.
        job_seconds: the time after which an open job counts as hung.
        rounds: the maximum number of requests to tagferry; None means as many as fit into the time.
    """

    seconds: float
    seed: int
    rate: float = 0.12
    away_seconds: float = 0.0
    at_once: int = 24
    job_seconds: float = 240.0
    rounds: int | None = None


class Violation(StrEnum):
    """The kinds of violations."""

    HUNG = "jobs that hang"
    REASON = "reasons that name no fault that was met"
    CONTENTS = "successes with missing or wrong contents"
    PARTIAL = "tags seen without all below them"
    REPLACED = "images replaced without override"
    INTERNAL = "internal errors of tagferry"


@dataclass
class Findings:
    """The results of a soak.

    Attributes:
        statuses: jobs by their final status.
        reasons: failed jobs by their reason, without names and numbers.
        refused: requests that tagferry did not accept, by their reason.
        sent: bytes of blobs that the target received.
        needed: bytes of blobs that successful jobs had to send.
        without_attachments: successful jobs without a signature or referrer, which their record says, unless the source
            denied having it.
        violations: by their kind.
        faults: the same as sentences.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    tags_seen: int = 0
    sent: int = 0
    needed: int = 0
    without_attachments: int = 0
    violations: Counter[Violation] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[tuple[str, Any]]:
        """The figures, each with its name."""
        again = max(self.sent - self.needed, 0)
        share = f"{100 * again / self.needed:.0f} %" if self.needed else "-"
        return [
            ("jobs", sum(self.statuses.values())),
            *((f"  {status}", count) for status, count in sorted(self.statuses.items())),
            ("requests refused before a job", sum(self.refused.values())),
            ("requests to the registries", self.requests),
            ("requests that met a fault", sum(self.made.values())),
            ("kinds of faults", len(self.made)),
            ("tags seen at the target, each complete", self.tags_seen),
            ("bytes of blobs sent", self.sent),
            ("of them sent again", f"{again} ({share})"),
            ("successes without all that is attached", self.without_attachments),
            *((str(kind), self.violations[kind]) for kind in Violation),
        ]


class Soak:
    """A running soak.

    Args:
        terms: the options.
        progress: reports the progress.
        target: the name of the target region.
    """

    def __init__(self, terms: Terms, progress: Callable[[str], None], *, target: str = SOUTH) -> None:
        self._terms = terms
        self._progress = progress
        self._target_region = target
        self._storm = Storm(seed=terms.seed, rate=terms.rate, away_seconds=terms.away_seconds)
        self._findings = Findings()
        access = Access(username="soak", password="s3cret")
        self._source = Registry(access, [self._storm.over("source")])
        self._target = Registry(access, [self._storm.over("target"), self._watch()])
        # It accepts any manifest, so that missing content below a tag is tagferry's fault and can be seen. It checks
        # only if it has itself lost a blob that it had acknowledged.
        self._target.contents.checks_references = False
        self._numbers = iter(range(terms.rounds or 10_000_000))

    async def run(self, folder: Path) -> Findings:
        """Run it in its own folder."""
        async with self.registries() as (source, target):
            regions: dict[str, dict[str, Any]] = {NORTH: {"listen": "", **source}, SOUTH: target}
            async with deployed(folder, regions=regions) as deployment:
                return await self.synchronize(lambda: deployment.client(NORTH))

    @asynccontextmanager
    async def registries(self) -> AsyncIterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Run both registries; yields the configuration of the source's and the target's region."""
        async with listening(self._source), listening(self._target):
            yield self._region(self._source), self._region(self._target)

    async def synchronize(self, client: Callable[[], ManagementClient]) -> Findings:
        """Make requests to the source's region of a running tagferry."""
        ends_at = time.monotonic() + self._terms.seconds
        await asyncio.gather(*(self._work(client, ends_at) for _ in range(self._terms.at_once)))
        self._storm.is_on = False
        self._findings.made = self._storm.counts
        self._findings.requests = self._storm.requests
        return self._findings

    def _region(self, registry: Registry) -> dict[str, Any]:
        access = registry.tokens.access
        return {
            "registry": registry.url,
            "username": access.username,
            "password": access.password,
            "stall_timeout_seconds": 2.0,
            "request_timeout_seconds": 15.0,
            "poll_interval_seconds": 0,
        }

    def _watch(self) -> Behavior:
        """Checks the target after every request: a tag's image must be complete, and bytes are counted."""

        def afterwards(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
            if ask.kind == "blobs/uploads":
                self._findings.sent += len(ask.body)
            registry.asked.clear()
            repository = registry.contents.find(ask.repository)
            if ask.method == "PUT" and ask.kind == "manifests" and repository and ask.reference in repository.tags:
                self._findings.tags_seen += 1
                if missing := _missing(repository, repository.tags[ask.reference]):
                    self._violation(
                        Violation.PARTIAL, f"{ask.repository}:{ask.reference} was seen without {missing[0]}"
                    )
            return None

        return Behavior(name="watch", effect="Watches.", source="", afterwards=afterwards)

    async def _work(self, connect: Callable[[], ManagementClient], ends_at: float) -> None:
        async with connect() as client:
            for number in self._numbers:
                if time.monotonic() > ends_at:
                    return
                await self._round(client, new_round(number, self._terms.seed))
                if number % 100 == 99:
                    self._progress(f"{number + 1} requests, {sum(self._findings.statuses.values())} jobs")

    async def _round(self, client: ManagementClient, work: Round) -> None:
        self._prepare(work)
        body = {
            "imageTag": [sample.tag for sample in work.samples],
            "override": work.override,
            "remoteNamespace": RELEASE,
            "remoteRegionId": self._target_region,
        }
        try:
            started = await client.start_sync(TEAM, work.name, body)
        except TagferryError as refusal:
            self._findings.refused[_kind_of(refusal.message)] += 1
            self._check_reason(work, "the request", refusal.message)
        else:
            jobs = await self._ended(client, work, list(started.tags))
            for job in jobs:
                self._check(work, job)
            self._findings.needed += work.bytes_for({job["tag"] for job in jobs if job["status"] == "success"})
        self._source.contents.repositories.pop(work.at_source, None)
        self._target.contents.repositories.pop(work.at_target, None)
        self._source.asked.clear()
        self._storm.forget(f"source {work.at_source}", f"target {work.at_target}")

    def _prepare(self, work: Round) -> None:
        source = self._source.contents.repositories[work.at_source] = Repository()
        for sample in work.samples:
            sample.store(source)
        if work.standing:
            target = self._target.contents.repositories[work.at_target] = Repository()
            for standing in work.standing.values():
                standing.store(target)

    async def _ended(self, client: ManagementClient, work: Round, job_ids: list[int]) -> list[dict[str, Any]]:
        deadline = time.monotonic() + self._terms.job_seconds
        jobs: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            jobs = list((await client.sync_jobs(TEAM, work.name, job_ids)).values())
            if not any(job["status"] in _OPEN for job in jobs):
                return jobs
            await asyncio.sleep(_LOOK_SECONDS)
        for job in jobs:
            if job["status"] in _OPEN:
                self._violation(Violation.HUNG, f"job {job['id']} of {work.at_source}:{job['tag']} hangs: {job}")
        return [job for job in jobs if job["status"] not in _OPEN]

    def _check(self, work: Round, job: dict[str, Any]) -> None:
        sample = next(one for one in work.samples if one.tag == job["tag"])
        status, reason = job["status"], str(job.get("reason", ""))
        self._findings.statuses[status] += 1
        target = self._target.contents.find(work.at_target)
        standing = work.standing.get(sample.tag)
        if status == "success":
            self._check_contents(work, sample, reason, target)
        elif status == _LEFT_ALONE:
            if standing is None or work.override:
                self._violation(
                    Violation.CONTENTS, f"{work.at_target}:{sample.tag} exists, says the job, and does not: {reason}"
                )
        else:
            self._findings.reasons[_kind_of(reason)] += 1
            self._check_reason(work, f"job {job['id']}", reason)
        found = target.tags.get(sample.tag) if target else None
        if standing is not None and not work.override and found != standing.image.digest:
            self._violation(Violation.REPLACED, f"{work.at_target}:{sample.tag} was replaced without override")
        allowed = {None, sample.image.digest, standing.image.digest if standing else None}
        if found not in allowed:
            self._violation(Violation.CONTENTS, f"{work.at_target}:{sample.tag} points to {found}")

    def _check_contents(self, work: Round, sample: Sample, reason: str, target: Repository | None) -> None:
        wanted = work.expected(sample)
        alone = Sample(wanted.name, wanted.tag, wanted.image)
        if missing := alone.differences(target):
            self._violation(Violation.CONTENTS, f"{work.at_target}:{sample.tag} is a success and lacks {missing[0]}")
        elif wanted.differences(target):
            self._findings.without_attachments += 1
            # If a source denies having a signature that is requested by name, there is nothing to report.
            is_denied = any(fault.name == DENIED for fault in self._storm.causes(f"source {work.at_source}"))
            if not (is_denied or _says_what_is_left_behind(reason)):
                self._violation(
                    Violation.CONTENTS,
                    f"{work.at_target}:{sample.tag} lacks what is attached, and does not say so: {reason}",
                )

    def _check_reason(self, work: Round, what: str, reason: str) -> None:
        if "internal error" in reason:
            self._violation(Violation.INTERNAL, f"{what} of {work.at_source} says {reason!r}")
        causes = self._storm.causes(f"source {work.at_source}", f"target {work.at_target}")
        if not any(re.search(fault.says, reason, re.IGNORECASE) for fault in causes):
            names = sorted({fault.name for fault in causes})
            self._violation(Violation.REASON, f"{what} of {work.at_source} says {reason!r}, where it met {names}")

    def _violation(self, kind: Violation, sentence: str) -> None:
        self._findings.violations[kind] += 1
        self._findings.faults.append(sentence)
        self._progress(f"VIOLATION: {sentence}")


def _missing(repository: Repository, digest: str) -> list[str]:
    manifest = repository.manifests.get(digest)
    if manifest is None:
        return [digest]
    below = [missing for child in manifest.children for missing in _missing(repository, child.digest)]
    return below or repository.missing_below(manifest)


def _says_what_is_left_behind(reason: str) -> bool:
    return re.search("behind|signatures|referrers", reason) is not None


def _kind_of(reason: str) -> str:
    """Return a reason without the parts that differ from job to job."""
    plain = re.sub(r"sha(256|512)[:-][0-9a-f]+", "DIGEST", reason)
    plain = re.sub(rf"({TEAM}|{RELEASE})/r\d+(:\w+)?", "REPOSITORY", plain)
    return re.sub(r"\d{2,}(?!\d)(?<!\b[345]\d\d)", "N", plain)
