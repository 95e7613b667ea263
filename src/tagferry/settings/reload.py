"""Changes that a running process may apply to its configuration (docs/operations.md, "What a reload applies")."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from tagferry.errors import Invalid
from tagferry.settings.configuration import Settings
from tagferry.settings.regions import RegionSettings

REGION = "regions.*"
RELOADABLE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "": frozenset(
            {"secret_key", "log_format", "log_level", "access_log", "audit_log", "trusted_proxies", "webhooks"}
        ),
        REGION: frozenset(
            {
                "registry",
                "public_url",
                "hosts",
                "username",
                "password",
                "docker_config",
                "ca_file",
                "ca_only",
                "insecure_skip_verify",
                "client_certificate",
                "client_key",
                "proxy",
                "token_hosts",
                "redirect_hosts",
                "max_connections",
                "request_timeout_seconds",
                "stall_timeout_seconds",
                "min_bytes_per_second",
                "max_bytes_per_second",
                "max_concurrent_tags",
                "max_tags_per_minute",
                "accepts",
                "poll_interval_seconds",
                "notifications_token",
                "organizations",
                "placeholder_repository",
                "tls_certificate",
                "tls_key",
            }
        ),
        "sync": frozenset(
            {
                "max_tags_per_request",
                "wait_seconds",
                "max_wait_seconds",
                "tag_timeout_seconds",
                "request_timeout_seconds",
                "retry_minutes",
                "rule_retry_minutes",
                "max_concurrent_tags_total",
                "drain_timeout_seconds",
                "history_days",
                "max_concurrent_requests_per_user",
            }
        ),
        "retention": frozenset({"interval_hours", "max_deletions_per_run", "clock_jump_pause_minutes"}),
        "limits": frozenset(
            {
                "body_bytes",
                "unknown_fields",
                "token_lifetime_hours",
                "login_secret_lifetime_hours",
                "registry_token_lifetime_minutes",
                "lockout_failure_attempts",
                "lockout_duration_seconds",
                "connections",
                "connections_per_address",
                "concurrent_requests",
                "header_timeout_seconds",
                "stall_timeout_seconds",
                "keep_alive_timeout_seconds",
                "disk_reserve_bytes",
                "scrub_interval_days",
                "response_timeout_seconds",
            }
        ),
        "quotas": frozenset({"organizations", "repositories", "bytes", "uploads"}),
        "audit": frozenset({"history_days", "max_records"}),
        "health": frozenset({"check_interval_seconds", "check_timeout_seconds"}),
    }
)
"""The settings that a reload applies, by their section; all others need a restart.

A new setting belongs here once everything that uses it notices a change.
"""

_RESTART = "while running; restart to apply it"


def changed_settings(before: Settings, after: Settings) -> list[str]:
    """Return the keys of the settings that differ, such as `log_level`; a region that was added or removed is one."""
    return [key for key, _, _ in _changes(before, after)]


def require_reloadable(before: Settings, after: Settings) -> None:
    """Check that a running process can apply all changes.

    Raises:
        Invalid: it cannot; names each key.
    """
    refused = [key for key, section, name in _changes(before, after) if name not in RELOADABLE.get(section, ())]
    if refused:
        raise Invalid(", ".join(refused), f"cannot change {_RESTART if len(refused) == 1 else f'{_RESTART[:-2]}them'}")
    for region in before.regions.keys() | after.regions.keys():
        _require_region(region, before.regions.get(region), after.regions.get(region))
    if bool(before.audit.max_records) != bool(after.audit.max_records):
        raise Invalid("audit.max_records", f"cannot change from or to 0 {_RESTART}")


def _require_region(name: str, before: RegionSettings | None, after: RegionSettings | None) -> None:
    if before is None or after is None:
        if (before is not None and before.listen) or (after is not None and after.listen):
            change = "added" if before is None else "removed"
            raise Invalid(f"regions.{name}", f"has a listen address, and cannot be {change} {_RESTART}")
        return
    if before.registry != after.registry and (before.is_embedded or after.is_embedded):
        raise Invalid(f"regions.{name}.registry", f"cannot change from or to an embedded registry {_RESTART}")
    if (before.tls_certificate is None) != (after.tls_certificate is None):
        raise Invalid(f"regions.{name}.tls_certificate", f"cannot be added or removed {_RESTART}")


def _changes(before: Settings, after: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield the key of each setting that differs, its section as in `RELOADABLE`, and its name there."""
    for name in Settings.model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if name == "regions":
            for region in sorted(before.regions.keys() | after.regions.keys()):
                yield from _region_changes(region, before.regions.get(region), after.regions.get(region))
        elif isinstance(old, BaseModel):
            yield from ((f"{name}.{one}", name, one) for one in _differing(old, new))
        elif old != new:
            yield name, "", name


def _region_changes(
    region: str, before: RegionSettings | None, after: RegionSettings | None
) -> Iterator[tuple[str, str, str]]:
    if before is None or after is None:
        yield f"regions.{region}", REGION, "registry"
        return
    yield from ((f"regions.{region}.{name}", REGION, name) for name in _differing(before, after))


def _differing(before: Any, after: Any) -> Iterator[str]:
    return (name for name in type(before).model_fields if getattr(before, name) != getattr(after, name))
