"""Audit records to write."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagferry.audit.model import AuditRecord

MORNING = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)

Making = Callable[..., AuditRecord]


@pytest.fixture
def record() -> Making:
    """Make a record; `minutes` are those since the morning."""

    def make(minutes: float = 0, **values: Any) -> AuditRecord:
        usual: dict[str, Any] = {
            "occurred_at": MORNING + timedelta(minutes=minutes),
            "user": "carol",
            "method": "POST",
            "operation": "synchronize images",
            "path": "/v2/manage/namespaces/team/repos/app/sync_images",
            "status": 200,
            "region": "cn-north-4",
            "address": "192.0.2.1",
            "request_id": "0" * 32,
            "organization": "team",
            "repository": "team/app",
        }
        return AuditRecord(**usual | values)

    return make
