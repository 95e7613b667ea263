"""Rows of sync jobs for tests that record them without a sync."""

from datetime import UTC, datetime
from typing import Any

from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def job_row(**columns: Any) -> dict[str, Any]:
    """Return the row of a job of carol's that copies web:v0 from team to release in the south, with these columns."""
    return {
        "request_id": "request",
        "created_at": _BEGIN,
        "updated_at": _BEGIN,
        "domain_id": "d" * 32,
        "domain_name": "acme",
        "operator_id": "u" * 32,
        "operator_name": "carol",
        "source_region": NORTH,
        "namespace": TEAM,
        "repository": "web",
        "tag": "v0",
        "target_region": SOUTH,
        "target_namespace": RELEASE,
        "override": False,
        "reason": "",
        **columns,
    }
