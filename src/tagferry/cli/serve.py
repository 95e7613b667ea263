"""`tagferry serve`: serve the regions of a configuration."""

import os
import tomllib
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer

from tagferry import logs
from tagferry.app import Reloader, Serving, checked_settings, ensure_admin, open_app
from tagferry.app.startup.configuration import load_settings
from tagferry.app.startup.problem import Problem, StartRefused
from tagferry.app.startup.site import ready_to_start
from tagferry.cli.accounts import deliver_first_admin
from tagferry.cli.check import Check
from tagferry.cli.check import check as check_start
from tagferry.cli.event_loop import run
from tagferry.cli.init import DEFAULT_REGIONS, configuration_text, write_configuration
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, is_default
from tagferry.cli.systemd import notify
from tagferry.errors import Invalid
from tagferry.memory import collect_rarely, limit_arenas
from tagferry.settings import Settings
from tagferry.web.metrics_page import metrics_listeners
from tagferry.web.server.serve import listening, until_signalled

app = typer.Typer(add_completion=False)

_OF_AN_INSTALLATION = ("tagferry.db", "secret.key", "registries")
"""Entries of `data_dir` after a start, depending on where the database and the key are."""

log = structlog.get_logger("tagferry")


MaxConcurrentTags = Annotated[
    int | None,
    typer.Option(
        min=0, help="Maximum number of tags that this process copies at once; 0: leave all copies to `tagferry worker`."
    ),
]
FormerMaxConcurrentTags = Annotated[int | None, typer.Option("--slots", "--workers", min=0, hidden=True)]


@app.command()
def serve(
    context: typer.Context,
    config: ConfigFile = DEFAULT_CONFIG,
    max_concurrent_tags: MaxConcurrentTags = None,
    slots: FormerMaxConcurrentTags = None,
    check: Check = False,
) -> None:
    """Serve every region that has a listen address. Without --config, writes a configuration if there is none."""
    if check:
        check_start(config, serves=True)
        return
    if not os.path.lexists(config) and is_default(context, "config"):
        _write_first(config)
    limit_arenas()
    collect_rarely()
    run(_serve(config, slots if max_concurrent_tags is None else max_concurrent_tags))


def _write_first(config: Path) -> None:
    """Write the configuration of a new installation; raises StartRefused if there is one without a configuration."""
    # The environment may name another directory than the file will.
    data = Settings.parse(tomllib.loads(configuration_text(DEFAULT_REGIONS))).data_dir
    if any((data / name).exists() for name in _OF_AN_INSTALLATION):
        sentence = f'configuration "{config}" does not exist, although "{data}" has the data of an installation'
        remedy = "restore the configuration, or write a new one with: tagferry init"
        raise StartRefused([Problem("configuration", sentence, remedy)])
    write_configuration(config, DEFAULT_REGIONS)


async def _serve(config: Path, slots: int | None) -> None:
    settings = load_settings(config)
    if slots == 0 and not settings.has_shared_database:
        rule = "can be 0 only with PostgreSQL (database_url), where other processes copy"
        raise Invalid("--max-concurrent-tags", rule, slots)
    logs.configure(style=settings.log_format, level=settings.log_level)
    with ready_to_start(settings, serves=True) as sockets:
        _configure_logs(settings)
        async with open_app(settings, slots=slots) as app, AsyncExitStack() as stack:
            if (admin := await ensure_admin(app.accounts)) is not None:
                deliver_first_admin(admin, settings.data_dir)
            listeners = [*app.listeners, *metrics_listeners(settings, app.services.readiness)]
            served = listening(listeners, settings.limits, proxies=settings.trusted_proxies, sockets=sockets)
            serving = Serving(app, await stack.enter_async_context(served))
            read = partial(checked_settings, config, serves=True)
            reloader = Reloader(settings, app.backend, read=read, configure_logs=_configure_logs, serving=serving)
            await stack.enter_async_context(reloader.running())
            for name, region in settings.served_regions.items():
                console = f"{(region.public_url or region.listening_url).rstrip('/')}/console/"
                log.info(
                    "serving a region", region=name, address=region.listen, registry=region.registry, console=console
                )
            await until_signalled(partial(notify, "READY=1"))
            notify("STOPPING=1")
            # Unfinished jobs continue in another process, or at the next start.
            drain_timeout = reloader.settings.sync.drain_timeout_seconds
            log.info("stopping", drain_timeout_seconds=drain_timeout)
            await app.services.console.live.close()
            await app.worker.drain(drain_timeout)
            await app.services.swr.sync.close()


def _configure_logs(settings: Settings) -> None:
    logs.configure(style=settings.log_format, level=settings.log_level, audit_log=settings.audit_log)
