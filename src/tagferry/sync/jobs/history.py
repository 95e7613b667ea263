"""The history of the sync jobs that copied to a repository."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select

from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryRef, Tag, organization_of
from tagferry.sync.jobs.model import JobStatus
from tagferry.sync.jobs.rows import is_open


@dataclass(frozen=True, slots=True)
class CopyRecord:
    """A job that copied a tag.

    Attributes:
        source: the organization it copied from, as `region/organization`.
        rule_id: the rule that started the job, if any.
    """

    job_id: int
    source: str
    rule_id: int | None


@dataclass(frozen=True, slots=True)
class TagHistory:
    """The jobs that concern a tag of a repository.

    Attributes:
        has_open_job: whether an open job may still change the tag.
        latest_job_id: the last job that copied to the tag; 0 if there is none.
        copied_by: the last job that copied the image the tag points to, if any.
    """

    has_open_job: bool
    latest_job_id: int
    copied_by: CopyRecord | None


class SyncHistory:
    """Looks up the jobs that copied to a repository."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_tag(self, source: RepositoryRef, tag: Tag, digest: Digest) -> TagHistory:
        """Return the job history of a tag that currently points to this digest."""
        mine = [*_into(source), SyncJobRow.tag == tag]
        succeeded = [*mine, SyncJobRow.status == JobStatus.SUCCESS.value]
        async with self._database.read() as session:
            open_job = await session.scalar(select(SyncJobRow.id).where(*mine, is_open()).limit(1))
            latest = await session.scalar(select(func.max(SyncJobRow.id)).where(*succeeded))
            job = await session.scalar(
                select(SyncJobRow)
                .where(*succeeded, SyncJobRow.digest == digest)
                .order_by(SyncJobRow.id.desc())
                .limit(1)
            )
        return TagHistory(
            has_open_job=open_job is not None, latest_job_id=latest or 0, copied_by=_copy_record(job) if job else None
        )

    async def copied_by(self, job_ids: Collection[int]) -> list[tuple[RepositoryRef, Tag]]:
        """Return the repositories and tags to which those of these jobs that succeeded have copied.

        If the search for signatures was incomplete, the source of the tag is included, so that its rules search again.
        """
        async with self._database.read() as session:
            jobs = await session.scalars(
                select(SyncJobRow).where(SyncJobRow.id.in_(job_ids), SyncJobRow.status == JobStatus.SUCCESS.value)
            )
            found = []
            for job in jobs:
                name, tag = Repository(job.repository), Tag(job.tag)
                found.append((RepositoryRef(RegionId(job.target_region), Namespace(job.target_namespace), name), tag))
                if job.search_error is not None:
                    found.append((RepositoryRef(RegionId(job.source_region), Namespace(job.namespace), name), tag))
            return found


def latest_job_id(source: RepositoryRef) -> Select[int | None]:
    """Return the query for the id of the last job that copied to a repository."""
    return select(func.max(SyncJobRow.id)).where(*_into(source), SyncJobRow.status == JobStatus.SUCCESS.value)


def rule_request_id(rule_id: int) -> str:
    """Return a new id for a request of a rule, which shows users the rule that started its jobs."""
    return f"rule-{rule_id}-{uuid.uuid4().hex[:16]}"


def _copy_record(job: SyncJobRow) -> CopyRecord:
    return CopyRecord(
        job_id=job.id,
        source=organization_of(job.source_region, job.namespace),
        rule_id=job.rule_id,
    )


def _into(source: RepositoryRef) -> list[ColumnElement[bool]]:
    return [
        SyncJobRow.target_region == source.region,
        SyncJobRow.target_namespace == source.namespace,
        SyncJobRow.repository == source.repository,
    ]
