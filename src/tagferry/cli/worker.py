"""`tagferry worker`: run sync jobs that other processes have accepted."""

from pathlib import Path
from typing import Annotated

import structlog
import typer

from tagferry import logs
from tagferry.app import open_backend
from tagferry.cli.event_loop import run
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile
from tagferry.errors import Invalid
from tagferry.memory import limit_arenas
from tagferry.settings import Settings
from tagferry.web.metrics_page import metrics_listeners
from tagferry.web.server.serve import listening, until_signalled

app = typer.Typer()

log = structlog.get_logger("tagferry")

MaxConcurrentTags = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of tags that this process copies at once.")
]
FormerMaxConcurrentTags = Annotated[int | None, typer.Option("--slots", "--places", min=1, hidden=True)]


@app.command()
def worker(
    config: ConfigFile = DEFAULT_CONFIG,
    max_concurrent_tags: MaxConcurrentTags = None,
    slots: FormerMaxConcurrentTags = None,
) -> None:
    """Run sync jobs of all processes with the same PostgreSQL database. Serves no region itself."""
    limit_arenas()
    run(_work(config, max_concurrent_tags or slots))


async def _work(config: Path, slots: int | None) -> None:
    settings = Settings.load(config)
    if not settings.has_shared_database:
        raise Invalid("database_url", "must name a PostgreSQL database; with SQLite, run only tagferry serve")
    logs.configure(style=settings.log_format, level=settings.log_level)
    async with open_backend(settings, slots=slots) as backend, listening(metrics_listeners(settings), settings.limits):
        log.info("started the worker", slots=slots or settings.sync.max_concurrent_tags)
        await until_signalled()
        # Unfinished jobs continue in another worker.
        log.info("stopping", drain_timeout_seconds=settings.sync.drain_timeout_seconds)
        await backend.sync.worker.drain(settings.sync.drain_timeout_seconds)
