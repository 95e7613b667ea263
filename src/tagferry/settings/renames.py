"""The former keys of settings, which are still read."""

from collections.abc import Mapping
from types import MappingProxyType

RENAMED_SETTINGS: Mapping[tuple[str, ...], Mapping[str, str]] = MappingProxyType(
    {
        ("regions", "*"): {
            "request_seconds": "request_timeout_seconds",
            "silence_seconds": "stall_timeout_seconds",
            "bytes_per_second": "max_bytes_per_second",
            "jobs_in_flight": "max_concurrent_tags",
            "jobs_per_minute": "max_tags_per_minute",
            "poll_seconds": "poll_interval_seconds",
        },
        ("sync",): {
            "tag_limit": "max_tags_per_request",
            "tag_seconds": "tag_timeout_seconds",
            "request_seconds": "request_timeout_seconds",
            "automatic_retry_minutes": "rule_retry_minutes",
            "tags_in_flight": "max_concurrent_tags",
            "blobs_in_flight": "max_concurrent_blobs",
            "jobs_in_flight": "max_concurrent_tags_total",
            "drain_seconds": "drain_timeout_seconds",
            "attachments": "referrers",
            "blob_locations": "max_blob_locations",
            "active_requests": "max_concurrent_requests_per_user",
        },
        ("retention",): {
            "tags_per_run": "max_deletions_per_run",
            "settling_minutes": "clock_jump_pause_minutes",
        },
        ("limits",): {
            "token_hours": "token_lifetime_hours",
            "login_hours": "login_secret_lifetime_hours",
            "registry_token_minutes": "registry_token_lifetime_minutes",
            "failed_attempts": "lockout_failure_attempts",
            "lock_seconds": "lockout_duration_seconds",
            "requests": "concurrent_requests",
            "head_seconds": "header_timeout_seconds",
            "stall_seconds": "stall_timeout_seconds",
            "keep_alive_seconds": "keep_alive_timeout_seconds",
            "disk_reserve": "disk_reserve_bytes",
            "scrub_days": "scrub_interval_days",
            "answer_seconds": "response_timeout_seconds",
        },
        ("webhooks", "*"): {
            "seconds": "timeout_seconds",
            "attempts": "max_attempts",
        },
    }
)
"""For each section, the former names of its settings and the names that replace them.

`*` matches a region's id or the index of a webhook.
"""
