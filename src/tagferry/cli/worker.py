"""`tagferry worker`: run sync jobs that other processes have accepted, and list the processes that do."""

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.table import Table
from rich.text import Text

from tagferry import logs, open_files
from tagferry.app import Backend, Reloader, Serving, checked_settings, open_backend
from tagferry.app.startup.configuration import load_settings
from tagferry.app.startup.site import ready_to_start
from tagferry.cli.check import Check
from tagferry.cli.check import check as check_start
from tagferry.cli.client import ManagementClient
from tagferry.cli.event_loop import run
from tagferry.cli.lines import write_json
from tagferry.cli.options import DEFAULT_CONFIG, AccessKey, CaFile, ConfigFile, Endpoint, SecretKey, out
from tagferry.cli.systemd import notify
from tagferry.cli.times import show_time
from tagferry.memory import collect_rarely, limit_arenas
from tagferry.printable import printable
from tagferry.settings import Settings
from tagferry.web.metrics_page import metrics_listeners
from tagferry.web.probes import Readiness
from tagferry.web.server.serve import listening, until_signalled

app = typer.Typer(add_completion=False)

log = structlog.get_logger("tagferry")

MaxConcurrentTags = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of tags that this process copies at once.")
]
FormerMaxConcurrentTags = Annotated[int | None, typer.Option("--slots", "--places", min=1, hidden=True)]


@app.callback(invoke_without_command=True)
def worker(
    context: typer.Context,
    config: ConfigFile = DEFAULT_CONFIG,
    max_concurrent_tags: MaxConcurrentTags = None,
    slots: FormerMaxConcurrentTags = None,
    check: Check = False,
) -> None:
    """Run sync jobs of all processes with the same PostgreSQL database. Serves no region itself."""
    if context.invoked_subcommand is not None:
        return
    if check:
        check_start(config, serves=False)
        return
    limit_arenas()
    open_files.raise_limit()
    collect_rarely()
    run(_work(config, max_concurrent_tags or slots))


@app.command("list")
def list_workers(
    endpoint: Endpoint,
    access_key: AccessKey,
    secret_key: SecretKey,
    ca_file: CaFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the processes as JSON.")] = False,
) -> None:
    """List the processes that work on a server's database. Only administrators may."""

    async def work() -> list[dict[str, Any]]:
        async with ManagementClient(endpoint, access_key, secret_key, ca_file=ca_file) as client:
            return await client.list_workers()

    workers = run(work())
    if as_json:
        write_json(workers)
    else:
        out.print(_table(workers))


def _table(workers: list[dict[str, Any]]) -> Table:
    table = Table("process", "version", "serves", "jobs", "slots", "leader", "last seen", box=None)
    for one in workers:
        table.add_row(
            Text(printable(one["name"])),
            Text(printable(one["version"])),
            Text(printable(", ".join(one["regions"]))),
            str(one["running"]),
            str(one["slots"]),
            "yes" if one["leader"] else "",
            Text(show_time(one["lastSeenAt"]) + (", lost" if one["lost"] else "")),
        )
    return table


def _readiness(backend: Backend) -> Readiness:
    return Readiness(
        database=backend.accounts.database,
        supervisor=backend.accounts.supervisor,
        load=None,
        regions=backend.sync.regions,
        worker=backend.sync.worker,
    )


async def _work(config: Path, slots: int | None) -> None:
    settings = load_settings(config)
    _configure_logs(settings)
    with ready_to_start(settings, serves=False) as sockets:
        async with open_backend(settings, slots=slots) as backend, AsyncExitStack() as stack:
            listeners = metrics_listeners(settings, _readiness(backend))
            served = listening(listeners, settings.limits, proxies=settings.trusted_proxies, sockets=sockets)
            serving = Serving(None, await stack.enter_async_context(served))
            read = partial(checked_settings, config, serves=False)
            reloader = Reloader(settings, backend, read=read, configure_logs=_configure_logs, serving=serving)
            await stack.enter_async_context(reloader.running())
            log.info("started the worker", slots=slots or settings.sync.max_concurrent_tags)
            await until_signalled(partial(notify, "READY=1"))
            notify("STOPPING=1")
            # Unfinished jobs continue in another worker.
            drain_timeout = reloader.settings.sync.drain_timeout_seconds
            log.info("stopping", drain_timeout_seconds=drain_timeout)
            await backend.sync.worker.drain(drain_timeout)


def _configure_logs(settings: Settings) -> None:
    logs.configure(style=settings.log_format, level=settings.log_level)
