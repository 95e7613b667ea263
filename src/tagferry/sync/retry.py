"""The requests by which a user retries jobs."""

from collections.abc import Sequence

from tagferry.accounts.model import Caller
from tagferry.names import Namespace, RegionId
from tagferry.sync.jobs.model import JobSelection, SyncJob, SyncRequest


def requests_to_retry(
    caller: Caller, selection: JobSelection, request_id: str, jobs: Sequence[SyncJob]
) -> dict[SyncRequest, list[SyncJob]]:
    """Group jobs into the requests that would repeat them: one for each target, override and rule.

    All jobs of a tag are retried by one request. It keeps the rule that started one of them: the rules at the target
    need it to know which organizations the content has passed through.
    """
    ways = {job.id: (job.target_region, job.target_namespace, job.override) for job in jobs}
    rules = {(ways[job.id], job.tag): job.rule_id for job in jobs if job.rule_id is not None}
    groups: dict[tuple[tuple[RegionId, Namespace, bool], int | None], list[SyncJob]] = {}
    for job in jobs:
        groups.setdefault((ways[job.id], rules.get((ways[job.id], job.tag))), []).append(job)
    return {
        SyncRequest(
            id=request_id,
            caller=caller,
            source_region=selection.region,
            namespace=selection.namespace,
            repository=selection.repository,
            tags=tuple(dict.fromkeys(job.tag for job in group)),
            target_region=target_region,
            target_namespace=target_namespace,
            override=override,
            rule_id=rule_id,
        ): group
        for ((target_region, target_namespace, override), rule_id), group in groups.items()
    }
