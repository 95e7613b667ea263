"""SWR's management API, version 2, basic edition."""

from fastapi import APIRouter

from tagferry.web.swr import auto_sync, organizations, repositories, synchronization, tags

router = APIRouter()
for part in (synchronization, auto_sync, tags, repositories, organizations):
    router.include_router(part.router)
