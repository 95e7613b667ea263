"""SWR's management API, version 2, basic edition."""

from fastapi import FastAPI

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

_PARTS = (
    # Those with more specific paths come before those that match any name.
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
)


def add_routes(app: FastAPI) -> None:
    """Add the API's routes, except for those of `add_versions`.

    They are added without a router around them, because each level of routers is searched again at each request.
    """
    for part in _PARTS:
        app.include_router(part.router)


def add_versions(app: FastAPI) -> None:
    """Add the overview, and the versions of the API, whose path is any of one segment; to be called last."""
    app.include_router(overview.router)
