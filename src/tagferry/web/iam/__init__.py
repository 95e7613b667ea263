"""The part of IAM that SWR's clients need: tokens, projects and domains, access keys."""

from fastapi import APIRouter

from tagferry.web.iam import credentials, projects, tokens

router = APIRouter(tags=["IAM"])
for part in (tokens, projects, credentials):
    router.include_router(part.router)
