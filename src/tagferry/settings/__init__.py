"""Settings, read from a TOML file and from environment variables `TAGFERRY_…`, which take precedence.

The environment variable of a nested setting has two underscores: `TAGFERRY_SYNC__MAX_TAGS_PER_REQUEST=50`.
"""

from tagferry.settings.audit import AuditSettings
from tagferry.settings.configuration import Settings
from tagferry.settings.health import HealthSettings
from tagferry.settings.limits import LimitSettings
from tagferry.settings.quotas import QuotaSettings
from tagferry.settings.regions import AcceptsSettings, RegionSettings
from tagferry.settings.retention import RetentionSettings
from tagferry.settings.sync import SyncSettings
from tagferry.settings.tracing import TracingSettings
from tagferry.settings.webhooks import WebhookSettings

__all__ = [
    "AcceptsSettings",
    "AuditSettings",
    "HealthSettings",
    "LimitSettings",
    "QuotaSettings",
    "RegionSettings",
    "RetentionSettings",
    "Settings",
    "SyncSettings",
    "TracingSettings",
    "WebhookSettings",
]
