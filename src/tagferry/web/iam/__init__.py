"""The part of IAM that SWR's clients need: tokens, projects and domains, users, the administrators, access keys."""

from fastapi import APIRouter

from tagferry.web.iam import access_keys, groups, projects, temporary_keys, tokens, users

router = APIRouter(tags=["IAM"])
for part in (tokens, projects, users, groups, access_keys, temporary_keys):
    router.include_router(part.router)
