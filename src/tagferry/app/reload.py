"""Apply the configuration again while a process runs: all of it, or nothing.

First everything is built that can fail, then all of it is put to use in one step without a wait. Copies, requests and
calls in progress end with what they began with.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from tagferry.app.backend import Backend, configured_regions
from tagferry.app.background import webhooks_of
from tagferry.app.health import interval_of
from tagferry.app.http import App, listeners_of
from tagferry.app.regions import have_same_store
from tagferry.app.startup.configuration import load_settings
from tagferry.app.startup.files import check_files
from tagferry.app.startup.problem import refuse
from tagferry.errors import Invalid, TagferryError
from tagferry.names import RegionId
from tagferry.regions import Region
from tagferry.registry.storage.store import DiskStore
from tagferry.reload_requests import ReloadInbox
from tagferry.settings import RegionSettings, Settings
from tagferry.settings.reload import changed_settings, require_reloadable
from tagferry.settings.sources import setting_label
from tagferry.web.server.serve import Listening


def checked_settings(config: Path, *, serves: bool) -> Settings:
    """Read the configuration and all files that it names; raises StartRefused with what is wrong."""
    settings = load_settings(config)
    refuse(check_files(settings, serves=serves))
    return settings


Apply = Callable[[], None]
"""Puts to use what has been built. Cannot fail."""
_LOGGING = frozenset({"log_format", "log_level", "audit_log"})

log = structlog.get_logger("tagferry")


@dataclass(frozen=True, slots=True)
class Serving:
    """The HTTP side of a process.

    Attributes:
        app: the application; None if this process serves no regions, but at most metrics.
        listening: the listeners.
    """

    app: App | None
    listening: Listening

    def prepare(self, settings: Settings, regions: Sequence[Region]) -> Apply:
        """Build the applications and read the certificates; raises Invalid."""
        listeners = listeners_of(settings, self.app.apps) if self.app is not None else ()
        try:
            listen = self.listening.prepare(listeners, settings.limits, settings.trusted_proxies)
        except Invalid as error:
            raise _of_region(error, settings) from None
        renew = self.app.prepare(settings, regions) if self.app is not None else None

        def apply() -> None:
            listen()
            if renew is not None:
                renew()

        return apply


class Reloader:
    """Reloads the configuration of this process.

    Args:
        settings: the current configuration.
        backend: the components of this process.
        read: reads the configuration again; blocks.
        configure_logs: sets up logging; raises Invalid.
        serving: the HTTP side.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        *,
        read: Callable[[], Settings],
        configure_logs: Callable[[Settings], None],
        serving: Serving,
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._read = read
        self._configure_logs = configure_logs
        self._serving = serving
        self._reloading = asyncio.Lock()

    @property
    def settings(self) -> Settings:
        """The configuration that this process works with."""
        return self._settings

    async def reload(self) -> list[str]:
        """Read the configuration and apply it; returns the keys of the settings that have changed.

        Raises:
            TagferryError: the configuration is invalid, or changes something that needs a restart; nothing has changed.
        """
        async with self._reloading:
            settings = await asyncio.to_thread(self._read)
            require_reloadable(self._settings, settings)
            changed = changed_settings(self._settings, settings)
            if changed:
                await self._apply(settings, changed)
                await self._backend.process.try_update()
            return changed

    async def _apply(self, settings: Settings, changed: Collection[str]) -> None:
        before, backend = self._settings.regions, self._backend
        sync = backend.sync
        kept = {one.id: one.store for one in sync.regions if _keeps_store(before[one.id], settings.regions.get(one.id))}
        regions = await sync.stores.open(settings, kept)
        webhooks = webhooks_of(settings)
        vault = await backend.accounts.prepare(settings) if "secret_key" in changed else None
        serve = self._serving.prepare(settings, regions)
        if not _LOGGING.isdisjoint(changed):
            self._change_logs(settings)
        # From here on, nothing fails and nothing waits.
        replaced = {RegionId(name) for name in before.keys() | settings.regions.keys()} - kept.keys()
        sync.apply(settings, regions, replaced)
        backend.accounts.apply(settings, vault)
        backend.automation.apply(settings, webhooks, have_regions_changed=bool(replaced))
        backend.health.interval = interval_of(settings)
        backend.health.check.seconds = settings.health.check_timeout_seconds
        if replaced or any(key.startswith("health.") for key in changed):
            backend.health.regions_changed(replaced)
        for region in regions:
            if isinstance(region.store, DiskStore):
                region.store.set_reserve(settings.limits.disk_reserve_bytes)
        serve()
        backend.process.configured = configured_regions(settings)
        self._settings = settings

    def _change_logs(self, settings: Settings) -> None:
        try:
            self._configure_logs(settings)
        except Invalid:
            self._configure_logs(self._settings)
            raise

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reload on SIGHUP and on requests of `tagferry reload` while the context is open."""
        accounts = self._backend.accounts
        inbox = ReloadInbox(accounts.database, accounts.bus, self._backend.process.id)

        async def work() -> None:
            while True:
                request = await inbox.next()
                error, changed = await self._try()
                if request is not None:
                    await inbox.answer(request, error, changed)

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, inbox.signal)
        working = accounts.supervisor.start("reloading the configuration", work)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            working.cancel()
            await asyncio.wait([working])

    async def _try(self) -> tuple[str | None, list[str]]:
        """Reload, and log the result; returns why nothing has changed, or the settings that have."""
        try:
            changed = await self.reload()
        except TagferryError as error:
            log.warning("refused to reload the configuration; nothing has changed", reason=error.message)
            return error.message, []
        except Exception as error:
            log.exception("failed to reload the configuration; nothing has changed")
            return f"internal error ({type(error).__name__}); see the process's log", []
        log.info("reloaded the configuration", changed=changed)
        return None, changed


def _keeps_store(before: RegionSettings, after: RegionSettings | None) -> bool:
    return after is not None and have_same_store(before, after)


def _of_region(error: Invalid, settings: Settings) -> Invalid:
    """Return the error of a certificate with the region that names the file."""
    for name, region in settings.served_regions.items():
        if error.field in ("tls_certificate", "tls_key") and error.value in map(
            str, (region.tls_certificate, region.tls_key)
        ):
            return Invalid(setting_label(("regions", name, error.field)), error.rule, error.value)
    return error
