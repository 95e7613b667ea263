"""The part of IAM that SWR's clients need: tokens, projects, domains, users, administrators, access keys."""

from fastapi import FastAPI

from tagferry.web.errors import IAM_RESPONSES
from tagferry.web.iam import access_keys, catalog, groups, projects, temporary_keys, tokens, users, versions

_PARTS = (versions, tokens, catalog, projects, users, groups, access_keys, temporary_keys)


def add_routes(app: FastAPI) -> None:
    """Add the API's routes, without a router around them, as for SWR's API."""
    for part in _PARTS:
        app.include_router(part.router, tags=["IAM"], responses=IAM_RESPONSES)
