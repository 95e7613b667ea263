"""The context of a request: its region, services, caller and id."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response

from tagferry.accounts.access import AccessControl
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.downloads import Downloads
from tagferry.accounts.grants import Grants
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.model import Caller
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.quotas import OrganizationQuotas
from tagferry.accounts.repositories import Repositories
from tagferry.accounts.shares import Shares
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.automation.retention.history import DeletionHistory
from tagferry.automation.retention.runner import RetentionRunner
from tagferry.automation.retention.store import Policies
from tagferry.automation.rules.service import RuleService
from tagferry.automation.triggers.service import TriggerService
from tagferry.automation.watch.watcher import TagWatcher
from tagferry.db.engine import Database
from tagferry.regions import Region, Regions
from tagferry.registry.api.asgi import origin
from tagferry.settings import Settings
from tagferry.supervision import Supervisor
from tagferry.sync.service import SyncService
from tagferry.web.server.admission import AdmittedRequest, Load
from tagferry.web.server.body_budget import BodyBudget


@dataclass(frozen=True, slots=True)
class Services:
    """The services that all regions of this process share."""

    settings: Settings
    database: Database
    supervisor: Supervisor
    regions: Regions
    organizations: Organizations
    quotas: OrganizationQuotas
    users: Users
    keys: AccessKeys
    access: AccessControl
    repositories: Repositories
    downloads: Downloads
    organization_grants: Grants
    repository_grants: Grants
    shares: Shares
    tokens: Tokens
    temporary: TemporaryCredentials
    authenticator: Authenticator
    sync: SyncService
    rules: RuleService
    triggers: TriggerService
    watch: TagWatcher
    retention: RetentionRunner
    retention_policies: Policies
    retention_history: DeletionHistory
    load: Load
    body_budget: BodyBudget


@dataclass(frozen=True, slots=True)
class Context:
    """The context of one request.

    Attributes:
        region: the region whose address received the request.
        response: headers that are added to the response.
    """

    region: Region
    services: Services
    request: Request
    response: Response

    @property
    def caller(self) -> Caller:
        """The authenticated caller."""
        caller: Caller = self.request.state.caller
        return caller

    @property
    def optional_caller(self) -> Caller | None:
        """The authenticated caller, or None for a request without credentials to a route that needs none."""
        caller: Caller | None = getattr(self.request.state, "caller", None)
        return caller

    @property
    def base_url(self) -> str:
        """The URL of this region for clients, without a trailing slash.

        It is the region's `public_url`, else the request's host, else the listen address.
        """
        settings = self.services.settings.regions[self.region.id]
        asked = origin(self.request.scope.get("scheme", "http"), self.request.headers.get("host", ""))
        return settings.public_url or asked or settings.listening_url

    @property
    def waiting(self) -> AdmittedRequest:
        """A context manager for waits, during which this request does not count as in progress."""
        admitted: AdmittedRequest = self.request.state.admitted
        return admitted

    @property
    def request_id(self) -> str:
        """The request's id."""
        request_id: str = self.request.state.request_id
        return request_id


# A coroutine, because FastAPI runs other dependencies in a thread, which takes longer.
async def _context(request: Request, response: Response) -> Context:
    state = request.app.state
    return Context(region=state.region, services=state.services, request=request, response=response)


RequestContext = Annotated[Context, Depends(_context)]
"""The type of a route's parameter for its context."""
