"""`tagferry serve`: serve the regions of a configuration."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import structlog
import typer

from tagferry import logs
from tagferry.app import ensure_admin, open_app
from tagferry.cli.accounts import deliver_first_admin
from tagferry.cli.event_loop import run
from tagferry.cli.init import DEFAULT_REGIONS, write_configuration
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile
from tagferry.errors import Invalid
from tagferry.memory import limit_arenas
from tagferry.settings import Settings
from tagferry.web.metrics_page import metrics_listeners
from tagferry.web.server.serve import listening, until_signalled

app = typer.Typer(add_completion=False)

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
    config: ConfigFile = DEFAULT_CONFIG,
    max_concurrent_tags: MaxConcurrentTags = None,
    slots: FormerMaxConcurrentTags = None,
) -> None:
    """Serve every region that has a listen address. Writes a default configuration if there is none."""
    if not config.exists():
        write_configuration(config, DEFAULT_REGIONS)
    limit_arenas()
    run(_serve(config, slots if max_concurrent_tags is None else max_concurrent_tags))


async def _serve(config: Path, slots: int | None) -> None:
    settings = Settings.load(config)
    if slots == 0 and not settings.has_shared_database:
        rule = "can be 0 only with PostgreSQL (database_url), where other processes copy"
        raise Invalid("--max-concurrent-tags", rule, slots)
    logs.configure(style=settings.log_format, level=settings.log_level, audit_log=settings.audit_log)
    async with open_app(settings, slots=slots) as app, AsyncExitStack() as stack:
        if (admin := await ensure_admin(app.accounts)) is not None:
            deliver_first_admin(admin, settings.data_dir)
        listeners = [*app.listeners, *metrics_listeners(settings)]
        await stack.enter_async_context(listening(listeners, settings.limits, proxies=settings.trusted_proxies))
        for name, region in settings.served_regions.items():
            console = f"{(region.public_url or region.listening_url).rstrip('/')}/console/"
            log.info("serving a region", region=name, address=region.listen, registry=region.registry, console=console)
        await until_signalled()
        # Unfinished jobs continue in another process, or at the next start.
        log.info("stopping", drain_timeout_seconds=settings.sync.drain_timeout_seconds)
        await app.services.console.live.close()
        await app.worker.drain(settings.sync.drain_timeout_seconds)
        await app.services.swr.sync.close()
