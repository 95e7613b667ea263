"""The context of a request to the management API, with the services that its operations use."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import Depends, Request, Response

from tagferry.accounts.access import AccessControl
from tagferry.accounts.downloads import Downloads
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.quotas import OrganizationQuotas
from tagferry.accounts.repositories import Repositories
from tagferry.accounts.shares import Shares
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.audit.log import AuditLog
from tagferry.automation.retention.history import DeletionHistory
from tagferry.automation.retention.runner import RetentionRunner
from tagferry.automation.retention.store import Policies
from tagferry.automation.rules.service import RuleService
from tagferry.automation.watch.watcher import TagWatcher
from tagferry.comparison.locations import LocationService
from tagferry.comparison.service import ComparisonService
from tagferry.health.monitor import RegionMonitor
from tagferry.inventory.members import MemberInventory
from tagferry.inventory.organizations import OrganizationInventory
from tagferry.inventory.repositories import RepositoryInventory
from tagferry.inventory.retention import RetentionInventory
from tagferry.inventory.sharing import ShareInventory
from tagferry.inventory.triggers import TriggerInventory
from tagferry.regions import Regions
from tagferry.sync.job_service import JobService
from tagferry.sync.service import SyncService
from tagferry.web.context import Context
from tagferry.workers import ProcessList


@dataclass(frozen=True, slots=True)
class SwrServices:
    """The services of the management API."""

    regions: Regions
    access: AccessControl
    organizations: Organizations
    repositories: Repositories
    organization_inventory: OrganizationInventory
    repository_inventory: RepositoryInventory
    shares: Shares
    quotas: OrganizationQuotas
    downloads: Downloads
    temporary: TemporaryCredentials
    sync: SyncService
    comparison: ComparisonService
    locations: LocationService
    jobs: JobService
    rules: RuleService
    triggers: TriggerInventory
    members: MemberInventory
    sharing: ShareInventory
    watch: TagWatcher
    retention: RetentionRunner
    retention_policies: Policies
    retention_history: DeletionHistory
    retention_inventory: RetentionInventory
    audit: AuditLog
    health: RegionMonitor
    processes: ProcessList


SwrContext: TypeAlias = Context[SwrServices]


# A coroutine, because FastAPI runs other dependencies in a thread, which takes longer.
async def _context(request: Request, response: Response) -> SwrContext:
    return Context.of(request, response, request.app.state.swr)


RequestContext = Annotated[SwrContext, Depends(_context)]
"""The type of a route's parameter for its context."""
