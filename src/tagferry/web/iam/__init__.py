"""The part of IAM that SWR's clients need: tokens, projects, domains, users, administrators, access keys."""

from fastapi import APIRouter

from tagferry.web.errors import IAM_RESPONSES
from tagferry.web.iam import access_keys, catalog, groups, projects, temporary_keys, tokens, users, versions

router = APIRouter(tags=["IAM"], responses=IAM_RESPONSES)
for part in (versions, tokens, catalog, projects, users, groups, access_keys, temporary_keys):
    router.include_router(part.router)
