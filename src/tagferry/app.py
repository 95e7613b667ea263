"""The composition root: the only place that builds objects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from starlette.types import ASGIApp

from tagferry.accounts.access import AccessControl
from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.grants import Grants
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.lockout import Lockout
from tagferry.accounts.model import AccessKey
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.repositories import Repositories
from tagferry.accounts.shares import Shares
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users, random_password
from tagferry.accounts.vault import Vault
from tagferry.copy.homes import BlobHomes
from tagferry.copy.moves import Moves
from tagferry.copy.pace import Pace
from tagferry.copy.proof import Verify
from tagferry.copy.rewrite import Acceptance
from tagferry.copy.run import CopyEngine, Limits
from tagferry.db.engine import Database
from tagferry.db.presence import Presence, presence_of
from tagferry.db.signals import Signals, signals_of
from tagferry.db.tables import OrganizationPermissionRow, RepositoryPermissionRow
from tagferry.housekeeping import keep_house
from tagferry.names import Digest, RegionId, RepositoryName, Tag
from tagferry.oci.images import ImageStore
from tagferry.registry.server import RegistryApp
from tagferry.registry.storage import DiskStore
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.remote.docker_config import find_credentials
from tagferry.retention.history import History
from tagferry.retention.policies import Policies
from tagferry.retention.runs import Retention
from tagferry.retention.sightings import Sightings
from tagferry.settings import RegionSettings, Settings, WebhookSettings
from tagferry.sync.announcer import Announcer
from tagferry.sync.arrivals import Arrivals
from tagferry.sync.capabilities import KeptCapabilities
from tagferry.sync.deliveries import Deliveries
from tagferry.sync.dispatch import Dispatch
from tagferry.sync.endings import Endings
from tagferry.sync.jobs import ENDED, Jobs
from tagferry.sync.locations import KeptLocations
from tagferry.sync.moves import SharedMoves
from tagferry.sync.queue import Queue, QueueLimits
from tagferry.sync.regions import Region, Regions
from tagferry.sync.rulebook import RuleBook
from tagferry.sync.rules import Rules
from tagferry.sync.sender import WebhookSender
from tagferry.sync.service import SyncService
from tagferry.sync.triggerbook import TriggerBook
from tagferry.sync.triggers import Triggers
from tagferry.sync.uploads import KeptUploads
from tagferry.sync.watch import Watch
from tagferry.sync.webhooks import Webhook, Webhooks
from tagferry.sync.worker import Worker
from tagferry.web.context import Services
from tagferry.web.gate import AccountsGate
from tagferry.web.region import region_app
from tagferry.web.registry_tokens import RegistryTokens
from tagferry.web.server import Listener

DEFAULT_DOMAIN = "tagferry"
ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Accounts:
    """Everything about who may do what, on an open database."""

    database: Database
    users: Users
    keys: AccessKeys
    organizations: Organizations
    temporary: TemporaryCredentials
    access: AccessControl


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """The administrator made at the first start; shown once."""

    name: str
    password: str
    key: AccessKey


@dataclass(frozen=True, slots=True)
class App:
    """The whole application, ready to listen."""

    accounts: Accounts
    services: Services
    worker: Worker
    listeners: tuple[Listener, ...]


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """Open the database, brought up to date, with the accounts in it."""
    database = Database(settings.effective_database_url)
    try:
        await database.migrate()
        open_regions = frozenset(
            RegionId(name) for name, region in settings.regions.items() if region.organizations == "open"
        )
        vault = _vault(settings)
        users, keys = Users(database, vault), AccessKeys(database, vault)
        try:
            yield Accounts(
                database=database,
                users=users,
                keys=keys,
                organizations=Organizations(database),
                temporary=TemporaryCredentials(users, vault),
                access=AccessControl(database, open_regions=open_regions),
            )
        finally:
            await keys.close()
    finally:
        await database.close()


async def ensure_admin(accounts: Accounts) -> FirstAdmin | None:
    """Create the administrator where there is no user yet."""
    if await accounts.users.list_users():
        return None
    password = random_password()
    admin = await accounts.users.create(ADMIN, password, domain=DEFAULT_DOMAIN, is_admin=True)
    return FirstAdmin(name=ADMIN, password=password, key=await accounts.keys.create(admin.user_id))


@dataclass(frozen=True, slots=True)
class Memory:
    """What stores keep beyond this process, and when to leave to others what is under way.

    Attributes:
        leaving: set while what is cancelled here is for another process to go on with.
    """

    database: Database
    leaving: asyncio.Event


@asynccontextmanager
async def open_regions(settings: Settings, memory: Memory | None = None) -> AsyncIterator[Regions]:
    """All the regions with their stores; no network is used before a store is asked something.

    Without a memory nothing is known of registries elsewhere from earlier, and nothing that is learned is kept.
    """
    async with AsyncExitStack() as stack:
        regions = []
        for name, region in settings.regions.items():
            store = await _store(RegionId(name), region, settings, memory)
            stack.push_async_callback(store.close)
            accepts = Acceptance(**region.accepts.model_dump())
            regions.append(Region(id=RegionId(name), url=region.url, store=store, accepts=accepts))
        yield Regions(regions)


@asynccontextmanager
async def open_app(settings: Settings, *, places: int | None = None) -> AsyncIterator[App]:
    """Build everything, begin to work on jobs, and give all of it back at the end.

    Args:
        settings: what is configured.
        places: jobs that run at once in this process; without it as many as are configured.

    Raises:
        Unavailable: the database cannot be used, or is used by a process that must be the only one.
    """
    async with AsyncExitStack() as stack:
        accounts = await stack.enter_async_context(open_accounts(settings))
        leaving = asyncio.Event()
        regions = await stack.enter_async_context(open_regions(settings, Memory(accounts.database, leaving)))
        locations = _locations(settings, accounts, regions)
        stack.push_async_callback(locations.close)
        database = accounts.database
        signals = signals_of(database)
        await signals.open()
        stack.push_async_callback(signals.close)
        jobs, deliveries = Jobs(database, signals), Deliveries(database, signals)
        presence = presence_of(database)
        moves = SharedMoves(signals, presence, _addresses(regions)) if database.is_shared else None
        engine = _engine(settings, BlobHomes(locations), moves)
        worker = Worker(
            engine=engine,
            jobs=jobs,
            queue=Queue(
                database,
                signals,
                presence,
                regions=[region.id for region in regions],
                limits=_queue_limits(settings),
            ),
            presence=presence,
            signals=signals,
            regions=regions,
            places=settings.sync.tags_in_flight if places is None else places,
            leaving=leaving,
        )
        endings = Endings(jobs, signals)
        stack.push_async_callback(endings.close)
        stack.push_async_callback(worker.close)
        await worker.start()
        history = History(database)
        house = keep_house(regions, jobs, history, deliveries, kept=timedelta(days=settings.sync.history_days))
        stack.push_async_callback(_cancel, asyncio.create_task(house))
        sync = SyncService(
            regions=regions,
            access=accounts.access,
            jobs=jobs,
            engine=engine,
            worker=worker,
            endings=endings,
            tag_limit=settings.sync.tag_limit,
            active_requests=settings.sync.active_requests,
            seconds=settings.sync.request_seconds,
        )
        triggers = Triggers(database)
        announcer = Announcer(regions=regions, triggers=triggers, deliveries=deliveries)
        watch = _watch(settings, accounts, regions, sync, announcer, signals, presence)
        stack.push_async_callback(watch.close)
        watch.start()
        policies = Policies(database)
        retention = Retention(
            regions=regions,
            policies=policies,
            sightings=Sightings(database),
            history=history,
            forget=watch.forget,
            leads=presence.leads,
            interval=timedelta(hours=settings.retention.interval_hours),
        )
        stack.push_async_callback(retention.close)
        retention.start()
        webhooks = _webhooks(settings)
        sender = WebhookSender(
            deliveries=deliveries, webhooks=webhooks, regions=regions, signals=signals, leads=presence.leads
        )
        stack.push_async_callback(sender.close)
        sender.start()
        repositories = Repositories(database)
        triggerbook = TriggerBook(
            regions=regions,
            repositories=repositories,
            triggers=triggers,
            deliveries=deliveries,
            webhooks=webhooks,
            look=watch.look,
        )
        services = _services(
            settings, accounts, regions, repositories, sync, watch, triggerbook, retention, policies, history
        )
        listeners = [_listener(regions[name], region, services) for name, region in settings.served_regions.items()]
        yield App(accounts=accounts, services=services, worker=worker, listeners=tuple(listeners))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _vault(settings: Settings) -> Vault:
    configured = settings.secret_key.get_secret_value() if settings.secret_key else None
    return Vault.open(configured, settings.data_dir / "secret.key")


async def _store(name: RegionId, region: RegionSettings, settings: Settings, memory: Memory | None) -> ImageStore:
    if region.is_embedded:
        return await DiskStore.open(settings.data_dir / "registries" / name, name=name)
    credentials = None
    if region.username is not None and region.password is not None:
        credentials = Credentials(username=region.username, password=region.password.get_secret_value())
    elif region.docker_config is not None:
        credentials = await find_credentials(region.registry.partition("://")[2], config=region.docker_config)
    return RemoteStore(
        Endpoint(
            name=name,
            url=region.registry,
            credentials=credentials,
            ca_file=region.ca_file,
            insecure_skip_verify=region.insecure_skip_verify,
            max_connections=region.max_connections,
            request_timeout=region.request_seconds,
            read_timeout=region.silence_seconds,
        ),
        keeper=KeptCapabilities(memory.database, region.url) if memory is not None else None,
        uploads=KeptUploads(memory.database, region.url, leaving=memory.leaving) if memory is not None else None,
    )


def _locations(settings: Settings, accounts: Accounts, regions: Regions) -> KeptLocations:
    return KeptLocations(accounts.database, _addresses(regions), limit=settings.sync.blob_locations)


def _addresses(regions: Regions) -> dict[str, str]:
    return {region.store.name: region.url for region in regions}


def _engine(settings: Settings, homes: BlobHomes, moves: Moves | None) -> CopyEngine:
    limits = Limits(
        tags=settings.sync.tags_in_flight,
        blobs=settings.sync.blobs_in_flight,
        tag_seconds=settings.sync.tag_seconds,
    )
    paces = {
        name: Pace(region.bytes_per_second) for name, region in settings.regions.items() if region.bytes_per_second
    }
    return CopyEngine(
        limits,
        homes=homes,
        moves=moves,
        attachments=settings.sync.attachments,
        verify=Verify(settings.sync.verify),
        paces=paces,
        splice=settings.sync.splice,
    )


def _queue_limits(settings: Settings) -> QueueLimits:
    regions = {RegionId(name): region for name, region in settings.regions.items()}
    return QueueLimits(
        jobs=settings.sync.jobs_in_flight,
        region_jobs={name: region.jobs_in_flight for name, region in regions.items() if region.jobs_in_flight},
        region_starts={name: region.jobs_per_minute for name, region in regions.items() if region.jobs_per_minute},
    )


def _watch(
    settings: Settings,
    accounts: Accounts,
    regions: Regions,
    sync: SyncService,
    announcer: Announcer,
    signals: Signals,
    presence: Presence,
) -> Watch:
    pauses = {RegionId(name): region.poll_pause for name, region in settings.regions.items()}
    rules, arrivals = Rules(accounts.database), Arrivals(accounts.database)
    dispatch = Dispatch(regions=regions, rules=rules, arrivals=arrivals, users=accounts.users, start=sync.start)
    watch = Watch(
        followers=[announcer, dispatch],
        regions=regions,
        arrivals=arrivals,
        on_push=announcer.pushed,
        poll_seconds={name: pause for name, pause in pauses.items() if pause is not None},
        leads=presence.leads,
    )
    signals.subscribe(ENDED, watch.notice_ends)
    return watch


def _webhooks(settings: Settings) -> Webhooks:
    def webhook(given: WebhookSettings) -> Webhook:
        secret = given.secret.get_secret_value() if given.secret else None
        rest = given.model_dump(exclude={"secret", "organizations"})
        return Webhook(secret=secret, organizations=frozenset(given.organizations), **rest)

    return Webhooks(webhook(given) for given in settings.webhooks)


def _services(
    settings: Settings,
    accounts: Accounts,
    regions: Regions,
    repositories: Repositories,
    sync: SyncService,
    watch: Watch,
    triggerbook: TriggerBook,
    retention: Retention,
    policies: Policies,
    history: History,
) -> Services:
    tokens = Tokens(accounts.database, lifetime=timedelta(hours=settings.limits.token_hours))
    lockout = Lockout(attempts=settings.limits.failed_attempts, seconds=settings.limits.lock_seconds)
    return Services(
        settings=settings,
        database=accounts.database,
        regions=regions,
        organizations=accounts.organizations,
        users=accounts.users,
        keys=accounts.keys,
        access=accounts.access,
        repositories=repositories,
        organization_grants=Grants(accounts.database, on=OrganizationPermissionRow.organization_id),
        repository_grants=Grants(accounts.database, on=RepositoryPermissionRow.repository_id),
        shares=Shares(accounts.database),
        tokens=tokens,
        temporary=accounts.temporary,
        authenticator=Authenticator(accounts.users, accounts.keys, tokens, accounts.temporary, lockout),
        sync=sync,
        rulebook=RuleBook(
            regions=regions,
            access=accounts.access,
            repositories=repositories,
            rules=Rules(accounts.database),
            on_put=watch.notice_repository,
        ),
        triggerbook=triggerbook,
        watch=watch,
        retention=retention,
        retention_policies=policies,
        retention_history=history,
    )


def _listener(region: Region, settings: RegionSettings, services: Services) -> Listener:
    registry: ASGIApp | None = None
    if isinstance(region.store, DiskStore):
        gate = AccountsGate(
            region.id, services.authenticator, services.access, url=settings.public_url, default_url=region.url
        )
        registry = RegistryTokens(
            RegistryApp(
                region.store,
                gate,
                on_push=partial(_pushed, services.watch, region.id),
                on_delete=partial(services.watch.forget, region.id),
            ),
            region.id,
            gate,
            services.temporary,
            lifetime=timedelta(minutes=services.settings.limits.registry_token_minutes),
        )
    return Listener(
        app=region_app(region, services, registry),
        address=settings.listen or "",
        tls_certificate=settings.tls_certificate,
        tls_key=settings.tls_key,
    )


async def _pushed(
    watch: Watch, region: RegionId, repository: RepositoryName, tag: Tag | None, digest: Digest, by: str | None
) -> None:
    if tag is not None:
        await watch.pushed(region, repository, tag, digest, by)
