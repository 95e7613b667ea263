"""Build the accounts: users, keys, organizations and access control."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tagferry.accounts.access import AccessControl
from tagferry.accounts.key_rotation import KeyRotation
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.model import AccessKey
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.quotas import OrganizationQuotas
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.user_rules import random_password
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.app.protection import protect
from tagferry.app.startup.problem import refuse
from tagferry.app.startup.secrets import check_secrets, key_file
from tagferry.coordination.pubsub import MessageBus, message_bus_of
from tagferry.db.engine import Database
from tagferry.db.faults import empty_file
from tagferry.errors import Invalid
from tagferry.names import RegionId
from tagferry.quotas import Limits
from tagferry.settings import Settings
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.cleanup import JobCleanup

DEFAULT_DOMAIN = "tagferry"
ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Accounts:
    """The services for accounts, on an open database."""

    database: Database
    supervisor: Supervisor
    bus: MessageBus
    vault: Vault
    users: Users
    keys: AccessKeys
    organizations: Organizations
    quotas: OrganizationQuotas
    temporary: TemporaryCredentials
    access: AccessControl

    async def prepare(self, settings: Settings) -> Vault:
        """Return the keys of a reloaded configuration.

        Raises:
            Invalid: a key is malformed, or a stored secret can be decrypted with the current keys only.
        """
        configured = settings.secret_key.get_secret_value() if settings.secret_key else None
        vault, rotation = Vault.open(configured, key_file(settings)), KeyRotation(self.database)
        if lost := set(await rotation.unreadable(vault)) - set(await rotation.unreadable(self.vault)):
            rule = f"must decrypt all stored secrets, and {len(lost)} are encrypted with another key"
            raise Invalid(
                "secret_key", f"{rule}; keep the former keys behind the new one, and run: tagferry secret rotate"
            )
        return vault

    def apply(self, settings: Settings, vault: Vault | None) -> None:
        """Apply a reloaded configuration, and its keys if they have changed. Cannot fail."""
        if vault is not None:
            self.vault.replace(vault)
        self.access.open_regions = _open_regions(settings)
        self.quotas.set_defaults(_quotas(settings))


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """The administrator created at the first start, with its secrets."""

    name: str
    password: str
    key: AccessKey


@asynccontextmanager
async def open_accounts(settings: Settings, *, needs_secrets: bool = False) -> AsyncIterator[Accounts]:
    """Open and migrate the database, and build the services for accounts on it.

    Args:
        settings: the configuration.
        needs_secrets: whether secrets of access keys are encrypted or decrypted. Without this, everything else can be
            done, such as deleting keys whose secrets cannot be decrypted any more.

    Raises:
        Unavailable: the database cannot be used.
        StartRefused: the stored secrets cannot be decrypted, but have to be.
    """
    protect(settings)
    database = Database(settings.effective_database_url)
    require_content(settings)
    try:
        await database.migrate()
        # The database library creates files with default permissions.
        protect(settings)
        vault = await _vault(settings, database, needs_secrets=needs_secrets)
        supervisor = Supervisor()
        users, keys, bus = Users(database, vault), AccessKeys(database, vault), message_bus_of(database, supervisor)
        try:
            yield Accounts(
                database=database,
                supervisor=supervisor,
                bus=bus,
                vault=vault,
                users=users,
                keys=keys,
                organizations=Organizations(database, on_delete=JobCleanup(bus).detach_organization),
                quotas=OrganizationQuotas(database, _quotas(settings)),
                temporary=TemporaryCredentials(users, vault),
                access=AccessControl(database, open_regions=_open_regions(settings)),
            )
        finally:
            await keys.close()
    finally:
        await database.close()


async def ensure_admin(accounts: Accounts) -> FirstAdmin | None:
    """Create the administrator if there is no user yet. Return it if it was created."""
    if await accounts.users.list_users():
        return None
    password = random_password()
    admin = await accounts.users.create(ADMIN, password, domain=DEFAULT_DOMAIN, is_admin=True)
    return FirstAdmin(name=ADMIN, password=password, key=await accounts.keys.create(admin.user_id))


def require_content(settings: Settings) -> None:
    """Check that an existing installation's database file is not empty.

    An empty file would look like a first start and get a new administrator.

    Raises:
        Unavailable: the file is empty; nothing was changed.
    """
    file = settings.data_dir / "tagferry.db"
    if settings.database_url or not file.is_file() or file.stat().st_size:
        return
    if key_file(settings).exists():
        raise empty_file(file)


def _open_regions(settings: Settings) -> frozenset[RegionId]:
    return frozenset(RegionId(name) for name, region in settings.regions.items() if region.organizations == "open")


def _quotas(settings: Settings) -> Limits:
    given = settings.quotas
    return Limits(bytes=given.bytes or None, repositories=given.repositories or None, uploads=given.uploads or None)


async def _vault(settings: Settings, database: Database, *, needs_secrets: bool) -> Vault:
    problems = await check_secrets(settings, database)
    if needs_secrets:
        refuse(problems)
    elif problems and settings.secret_key is None and not key_file(settings).exists():
        # A new key file would hide that the former one was lost.
        return Vault.temporary()
    configured = settings.secret_key.get_secret_value() if settings.secret_key else None
    return Vault.open(configured, key_file(settings))
