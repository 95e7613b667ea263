"""SWR's management API, version 2, basic edition."""

from fastapi import APIRouter

from tagferry.web.swr import (
    accessories,
    all_jobs,
    audit_records,
    auto_sync,
    comparison,
    job_actions,
    login,
    organizations,
    overview,
    permissions,
    regions,
    repositories,
    repository_lists,
    retentions,
    shared_repositories,
    sharing,
    synchronization,
    tags,
    triggers,
    workers,
)

router = APIRouter()
# Routers with more specific paths come before those that match any name.
for part in (
    synchronization,
    regions,
    job_actions,
    all_jobs,
    auto_sync,
    comparison,
    tags,
    accessories,
    permissions,
    sharing,
    retentions,
    triggers,
    shared_repositories,
    repository_lists,
    repositories,
    organizations,
    login,
    audit_records,
    workers,
    overview,
):
    router.include_router(part.router)
