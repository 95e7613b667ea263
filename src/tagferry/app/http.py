"""Build the application: an HTTP application for each served region, and all services behind it."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from starlette.types import ASGIApp

from tagferry.accounts.access import AccessControl
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.downloads import Downloads
from tagferry.accounts.grants import Grants
from tagferry.accounts.lockout import Lockout
from tagferry.accounts.service import AccountService
from tagferry.accounts.shared_lockout import share
from tagferry.accounts.shares import Shares
from tagferry.accounts.signatures import UsedSignatures, open_signatures
from tagferry.accounts.tokens import Tokens
from tagferry.app.accounts import Accounts
from tagferry.app.backend import Backend, open_backend
from tagferry.audit.trail import AuditTrail, open_trail
from tagferry.automation.rules.state import RuleStates
from tagferry.automation.watch.watcher import TagWatcher
from tagferry.comparison.locations import LocationService
from tagferry.comparison.records import CopyRecords
from tagferry.comparison.service import ComparisonService
from tagferry.db.tables import OrganizationPermissionRow, RepositoryPermissionRow
from tagferry.eventual import EventualResults
from tagferry.inventory.members import MemberInventory
from tagferry.inventory.organizations import OrganizationInventory
from tagferry.inventory.repositories import RepositoryInventory
from tagferry.inventory.retention import RetentionInventory
from tagferry.inventory.sharing import ShareInventory
from tagferry.inventory.triggers import TriggerInventory
from tagferry.names import Digest, RegionId, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tagferry.regions import Region
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tagferry.settings import Settings
from tagferry.sync.jobs.worker import Worker
from tagferry.web.authorizer import AccountsAuthorizer
from tagferry.web.console.context import ConsoleServices
from tagferry.web.iam.context import IamServices
from tagferry.web.probes import Readiness
from tagferry.web.region import ApiServices, ReplaceableApp, region_app
from tagferry.web.registry_tokens import RegistryTokens
from tagferry.web.server.admission import Load
from tagferry.web.server.body_budget import BodyBudget
from tagferry.web.server.serve import Listener
from tagferry.web.swr.context import SwrServices
from tagferry.workers import ProcessList


@dataclass(frozen=True, slots=True)
class App:
    """The whole application, ready to listen."""

    backend: Backend
    services: ApiServices
    lockout: Lockout
    apps: Mapping[RegionId, ReplaceableApp]
    listeners: tuple[Listener, ...]

    @property
    def accounts(self) -> Accounts:
        """The services for accounts."""
        return self.backend.accounts

    @property
    def worker(self) -> Worker:
        """Runs jobs."""
        return self.backend.sync.worker

    def prepare(self, settings: Settings, regions: Iterable[Region]) -> Callable[[], None]:
        """Build the applications for a reloaded configuration; return a function that puts them to use."""
        renewed = _region_apps({one.id: one for one in regions}, settings, self.services)
        limits = settings.limits

        def apply() -> None:
            self.lockout.attempts, self.lockout.seconds = (
                limits.lockout_failure_attempts,
                limits.lockout_duration_seconds,
            )
            self.services.load.limit = limits.concurrent_requests
            self.services.iam.tokens.lifetime = timedelta(hours=limits.token_lifetime_hours)
            self.services.swr.organization_inventory.limit_per_user = settings.quotas.organizations or None
            for region, app in renewed.items():
                self.apps[region].current = app

        return apply


@asynccontextmanager
async def open_app(settings: Settings, *, slots: int | None = None) -> AsyncIterator[App]:
    """Build everything and start running jobs. Release all resources when the context exits.

    Args:
        settings: the configuration.
        slots: the maximum number of jobs that run at once in this process; by default `sync.max_concurrent_tags`.

    Raises:
        Unavailable: the database cannot be used, or another process has exclusive use of it.
    """
    async with open_backend(settings, slots=slots) as backend:
        downloads = Downloads(backend.accounts.database)
        accounts, limits = backend.accounts, settings.limits
        lockout = Lockout(attempts=limits.lockout_failure_attempts, seconds=limits.lockout_duration_seconds)
        try:
            async with (
                open_signatures(accounts.database, accounts.supervisor) as signatures,
                share(lockout, accounts.database, accounts.bus, accounts.supervisor),
                _trail(settings, accounts) as trail,
                EventualResults() as eventual,
            ):
                services = _services(settings, backend, signatures, lockout, downloads, trail, eventual)
                built = _region_apps({region.id: region for region in backend.sync.regions}, settings, services)
                apps = {region: ReplaceableApp(app) for region, app in built.items()}
                yield App(
                    backend=backend,
                    services=services,
                    lockout=lockout,
                    apps=apps,
                    listeners=listeners_of(settings, apps),
                )
        finally:
            await downloads.close()


def _trail(settings: Settings, accounts: Accounts) -> AbstractAsyncContextManager[AuditTrail | None]:
    """Return the context of the audit trail, of None if the database keeps no audit records."""
    return open_trail(accounts.database, accounts.supervisor) if settings.audit.max_records else nullcontext()


def _services(
    settings: Settings,
    backend: Backend,
    signatures: UsedSignatures,
    lockout: Lockout,
    downloads: Downloads,
    trail: AuditTrail | None,
    eventual: EventualResults,
) -> ApiServices:
    accounts, sync, automation = backend.accounts, backend.sync, backend.automation
    database, limits = accounts.database, settings.limits
    tokens = Tokens(database, lifetime=timedelta(hours=limits.token_lifetime_hours))
    authenticator = Authenticator(accounts.users, accounts.keys, tokens, accounts.temporary, lockout, signatures)
    account_service = AccountService(accounts.users, accounts.keys, authenticator)
    load, processes = Load(limits.concurrent_requests), ProcessList(database)
    repositories = RepositoryInventory(
        access=accounts.access,
        repositories=backend.repositories,
        downloads=downloads,
        quotas=accounts.quotas,
        forget=automation.watch.forget,
    )
    organizations = OrganizationInventory(
        access=accounts.access,
        organizations=accounts.organizations,
        repositories=backend.repositories,
        downloads=downloads,
        limit=settings.quotas.organizations or None,
    )
    retention = RetentionInventory(
        access=accounts.access,
        repositories=repositories,
        policies=automation.policies,
        history=automation.history,
        runner=automation.retention,
    )
    members = MemberInventory(
        access=accounts.access,
        repositories=repositories,
        organization_grants=Grants(database, on=OrganizationPermissionRow.organization_id),
        repository_grants=Grants(database, on=RepositoryPermissionRow.repository_id),
    )
    shares = Shares(database)
    sharing = ShareInventory(access=accounts.access, repositories=repositories, shares=shares)
    triggers = TriggerInventory(access=accounts.access, repositories=repositories, triggers=automation.triggers)
    records = CopyRecords(database)
    comparison = ComparisonService(
        regions=sync.regions, access=accounts.access, repositories=backend.repositories, records=records
    )
    locations = LocationService(regions=sync.regions, access=accounts.access, records=records, locations=sync.locations)
    return ApiServices(
        swr=SwrServices(
            regions=sync.regions,
            access=accounts.access,
            organizations=accounts.organizations,
            repositories=backend.repositories,
            organization_inventory=organizations,
            repository_inventory=repositories,
            shares=shares,
            quotas=accounts.quotas,
            downloads=downloads,
            temporary=accounts.temporary,
            sync=sync.service,
            comparison=comparison,
            locations=locations,
            jobs=sync.job_service,
            rules=automation.rules,
            triggers=triggers,
            members=members,
            sharing=sharing,
            watch=automation.watch,
            retention=automation.retention,
            retention_policies=automation.policies,
            retention_history=automation.history,
            retention_inventory=retention,
            audit=automation.audit,
            health=backend.health,
            processes=processes,
        ),
        iam=IamServices(
            regions=sync.regions,
            accounts=account_service,
            users=accounts.users,
            keys=accounts.keys,
            tokens=tokens,
            temporary=accounts.temporary,
            authenticator=authenticator,
        ),
        console=ConsoleServices(
            regions=sync.regions,
            access=accounts.access,
            organizations=accounts.organizations,
            organization_inventory=organizations,
            repository_inventory=repositories,
            retention_inventory=retention,
            comparison=comparison,
            locations=locations,
            sync=sync.service,
            jobs=sync.job_service,
            live=sync.live,
            rules=automation.rules,
            rule_states=RuleStates(rules=automation.rules, database=database, users=accounts.users),
            triggers=triggers,
            members=members,
            sharing=sharing,
            accounts=account_service,
            tokens=tokens,
            authenticator=authenticator,
            audit=automation.audit,
            health=backend.health,
            processes=processes,
            eventual=eventual,
        ),
        watch=automation.watch,
        readiness=Readiness(
            database=database, supervisor=accounts.supervisor, load=load, regions=sync.regions, worker=sync.worker
        ),
        authenticator=authenticator,
        load=load,
        body_budget=BodyBudget(),
        trail=trail,
    )


def listeners_of(settings: Settings, apps: Mapping[RegionId, ASGIApp]) -> tuple[Listener, ...]:
    """Return the listeners of the served regions, which have these applications."""
    return tuple(
        Listener(
            app=apps[name],
            address=region.listen or "",
            tls_certificate=region.tls_certificate,
            tls_key=region.tls_key,
        )
        for name, region in settings.served_regions.items()
    )


def _region_apps(
    regions: Mapping[RegionId, Region], settings: Settings, services: ApiServices
) -> dict[RegionId, ASGIApp]:
    """Return the application of each served region."""
    return {
        name: region_app(regions[name], settings, services, _registry(regions[name], settings, services))
        for name in settings.served_regions
    }


def _registry(region: Region, settings: Settings, services: ApiServices) -> ASGIApp | None:
    """Return the application of a region's embedded registry; None if its registry is remote."""
    if not isinstance(region.store, DiskStore):
        return None
    authorizer = AccountsAuthorizer(
        region.id,
        services.authenticator,
        services.swr.access,
        url=settings.regions[region.id].public_url,
        default_url=region.url,
    )
    return RegistryTokens(
        RegistryApp(
            region.store,
            authorizer,
            on_push=partial(_pushed, services.watch, services.swr.access, region.id),
            on_delete=partial(services.watch.forget, region.id),
            on_pull=partial(_pulled, services.swr.downloads, region.id),
        ),
        region.id,
        authorizer,
        services.swr.temporary,
        lifetime=timedelta(minutes=settings.limits.registry_token_lifetime_minutes),
    )


async def _pushed(
    watch: TagWatcher,
    access: AccessControl,
    region: RegionId,
    repository: RepositoryName,
    tag: Tag | None,
    digest: Digest,
    by: str | None,
) -> None:
    if tag is not None:
        # Triggers and rules share one check that what is remembered is still valid.
        with access.pinned():
            await watch.pushed(region, repository, tag, digest, by)


def _pulled(downloads: Downloads, region: RegionId, repository: RepositoryName, manifest: Manifest) -> None:
    # A client that pulls a multi-platform image also gets its index, and one that verifies signatures gets those. Only
    # the image itself counts.
    if not manifest.is_index and manifest.subject is None:
        downloads.count(region, repository)
