"""Run the copies of `tagferry copy` in this process, until they end or the process is interrupted."""

import asyncio
import signal
from collections.abc import Sequence

import uvloop

from tagferry.cli.copy_display import CopyDisplay
from tagferry.direct.results import INTERRUPTED, CopyResult
from tagferry.direct.runner import CopyOptions, DirectCopier
from tagferry.direct.state import state_directory
from tagferry.direct.stores import RegistryAccess, Stores
from tagferry.direct.tasks import CopyTask

_SHOW_SECONDS = 0.2


def run_copies(
    tasks: Sequence[CopyTask], access: RegistryAccess, options: CopyOptions, display: CopyDisplay
) -> list[CopyResult]:
    """Run copies and show their progress. After Ctrl-C or SIGTERM, exit; the next process continues the uploads."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_run(tasks, access, options, display))
        except (asyncio.CancelledError, KeyboardInterrupt):
            display.interrupted()
            raise SystemExit(INTERRUPTED) from None


async def _run(
    tasks: Sequence[CopyTask], access: RegistryAccess, options: CopyOptions, display: CopyDisplay
) -> list[CopyResult]:
    interrupted = asyncio.Event()
    stores = Stores(access, state_directory=state_directory(), is_leaving=interrupted.is_set)
    copier = DirectCopier(stores, options, on_result=display.result)
    copying = asyncio.create_task(copier.run(tasks))

    def interrupt() -> None:
        # Set first, so that the uploads leave their sessions for the next process.
        interrupted.set()
        copying.cancel()

    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, interrupt)
    try:
        while not copying.done():
            await asyncio.wait([copying], timeout=_SHOW_SECONDS)
            display.progress(copier)
        return copying.result()
    finally:
        await stores.close()
