"""`tagferry serve`: serve the regions of a configuration."""

from pathlib import Path

import structlog
import typer

from tagferry import logs
from tagferry.app import ensure_admin, open_accounts, open_app
from tagferry.cli.accounts import show_first_admin
from tagferry.cli.init import DEFAULT_REGIONS, initialize
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, run
from tagferry.settings import Settings
from tagferry.web.server import listening, until_signalled

app = typer.Typer()

log = structlog.get_logger("tagferry")


@app.command()
def serve(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Serve every region that has a listen address; the first start writes a configuration if there is none."""
    if not config.exists():
        run(initialize(config, DEFAULT_REGIONS))
    run(_serve(config))


async def _serve(config: Path) -> None:
    settings = Settings.load(config)
    logs.configure(style=settings.log_format, level=settings.log_level)
    async with open_accounts(settings) as accounts:
        admin = await ensure_admin(accounts)
    if admin is not None:
        show_first_admin(admin)
    async with open_app(settings) as app, listening(app.listeners):
        for name, region in settings.served_regions.items():
            log.info("serving", region=name, address=region.listen, registry=region.registry)
        if resumed := await app.services.sync.resume():
            log.info("going on with unfinished synchronizations", jobs=resumed)
        await until_signalled()
        log.info("stopping; synchronizations under way go on at the next start")
