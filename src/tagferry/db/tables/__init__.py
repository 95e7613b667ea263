"""All tables."""

from tagferry.db.tables.accounts import AccessKeyRow, DomainRow, TokenRow, UsedSignatureRow, UserRow
from tagferry.db.tables.audit import AuditRecordRow
from tagferry.db.tables.base import Base
from tagferry.db.tables.clock import ClockRow
from tagferry.db.tables.generation import GenerationRow
from tagferry.db.tables.processes import ProcessRow
from tagferry.db.tables.registries import BlobLocationRow, RegionHealthRow, RegistryCapabilitiesRow, UploadSessionRow
from tagferry.db.tables.repositories import (
    OrganizationNumberRow,
    OrganizationPermissionRow,
    OrganizationRow,
    RepositoryDownloadsRow,
    RepositoryPermissionRow,
    RepositoryRow,
    RepositoryShareRow,
)
from tagferry.db.tables.retention import RetentionDeletionRow, RetentionPolicyRow, RetentionTagRow
from tagferry.db.tables.sync import SyncJobAttemptRow, SyncJobRow, SyncRuleRow, SyncRuleTagRow, WorkerRow
from tagferry.db.tables.triggers import DeliveryRow, TriggerRow, TriggerTagRow

__all__ = [
    "AccessKeyRow",
    "AuditRecordRow",
    "Base",
    "BlobLocationRow",
    "ClockRow",
    "DeliveryRow",
    "DomainRow",
    "GenerationRow",
    "OrganizationNumberRow",
    "OrganizationPermissionRow",
    "OrganizationRow",
    "ProcessRow",
    "RegionHealthRow",
    "RegistryCapabilitiesRow",
    "RepositoryDownloadsRow",
    "RepositoryPermissionRow",
    "RepositoryRow",
    "RepositoryShareRow",
    "RetentionDeletionRow",
    "RetentionPolicyRow",
    "RetentionTagRow",
    "SyncJobAttemptRow",
    "SyncJobRow",
    "SyncRuleRow",
    "SyncRuleTagRow",
    "TokenRow",
    "TriggerRow",
    "TriggerTagRow",
    "UploadSessionRow",
    "UsedSignatureRow",
    "UserRow",
    "WorkerRow",
]
