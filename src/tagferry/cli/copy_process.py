"""Run `tagferry copy` in this process, until the copies end or the process is interrupted."""

import asyncio
import gc
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence

import uvloop

from tagferry.cli import exit_codes
from tagferry.cli.copy_display import CopyDisplay
from tagferry.cli.usage import describe
from tagferry.direct.early_start import EarlyStart
from tagferry.direct.references import LayoutReference, parse_host, parse_image
from tagferry.direct.results import CopyResult
from tagferry.direct.runner import CopyOptions, DirectCopier
from tagferry.direct.sizes import parse_rate
from tagferry.direct.state_file import state_directory
from tagferry.direct.stores import RegistryAccess, Stores
from tagferry.direct.tasks import CopyList, CopyTask, TagPattern, TagSelection
from tagferry.errors import Invalid, TagferryError
from tagferry.http.early_sockets import KEPT_SECONDS, EarlySockets

_SHOW_SECONDS = 0.2
_ALLOCATIONS = 50_000
"""Objects that are allocated, and not freed, until the collector looks for garbage. A copy makes hardly any. Set here,
because `tagferry.memory` takes longer to import."""
_FREED_BLOCK = 32 * 1024 * 1024 - 64 * 1024
"""Size in bytes of a block of memory that is allocated, freed and never touched. Until a larger block was freed, glibc
returns each block of 128 KiB or more to the kernel, which clears the next one page by page (mallopt(3),
M_MMAP_THRESHOLD). Each chunk of a blob is such a block."""


def copy(options: Namespace, early_start: EarlyStart) -> int:
    """Run the copies that the options of the command ask for; return the exit code."""
    try:
        return _copy(options, early_start)
    finally:
        early_start.sockets.close()


def _copy(options: Namespace, early_start: EarlyStart) -> int:
    display = CopyDisplay(as_json=options.json)
    try:
        if options.exit_code and not options.dry_run:
            raise Invalid("--exit-code", "needs --dry-run")
        wanted = _wanted(options)
        access = RegistryAccess(
            plain_http=wanted.plain_http | _hosts(options.plain_http, "--plain-http"),
            insecure=wanted.insecure | _hosts(options.insecure, "--insecure"),
            ca_file=options.ca_file,
            certificates=_directory(options.certs_dir),
            docker_config=options.docker_config,
            credentials=wanted.credentials,
        )
        how = CopyOptions(
            override=options.override,
            dry_run=options.dry_run,
            jobs=options.jobs,
            bytes_per_second=parse_rate(options.bandwidth, field="--bandwidth") if options.bandwidth else None,
            target_has_tags=early_start.has_tags,
        )
        display.ignored(wanted.ignored)
        results = _run_until_interrupted(_tasks(wanted, options), access, how, display, early_start.sockets)
    except Invalid as error:
        # Whatever is invalid was named by an argument, also what a list or a certificate contains.
        display.error(describe(error))
        return exit_codes.USAGE
    except TagferryError as error:
        # The errors of single copies are results.
        display.error(error.message)
        return exit_codes.of_registry_error(error)
    except (asyncio.CancelledError, KeyboardInterrupt):
        display.error("interrupted; repeat the command to continue")
        return exit_codes.INTERRUPTED
    if not options.dry_run and all(result.is_ok for result in results):
        early_start.remember(has_tags=any(result.status in ("copied", "up_to_date") for result in results))
    display.results(results)
    display.summary(results)
    return _exit_code(results, display, tells_changes=options.exit_code)


def _exit_code(results: Sequence[CopyResult], display: CopyDisplay, *, tells_changes: bool) -> int:
    code = exit_codes.combined([code_of(result) for result in results])
    if code != exit_codes.OK or display.is_incomplete:
        return code or exit_codes.TAG_FAILED
    would_copy = tells_changes and any(result.status == "to_copy" for result in results)
    return exit_codes.WOULD_COPY if would_copy else exit_codes.OK


def code_of(result: CopyResult) -> int:
    """Return the exit code of a command that has this result alone."""
    if result.is_ok:
        return exit_codes.OK
    if result.status == "existed":
        return exit_codes.CONFLICT
    return exit_codes.of_registry_error(result.error) if result.error is not None else exit_codes.TAG_FAILED


def _wanted(options: Namespace) -> CopyList:
    """Return the copies that the arguments or the list ask for."""
    images = options.images
    if options.list is not None:
        if len(images) > 1:
            raise Invalid("SOURCE", "must be omitted with --from", images[0])
        name = "standard input" if options.list == "-" else options.list
        from tagferry.direct.lists import parse_list

        return parse_list(_read(options.list), name=name, target=images[0] if images else None)
    if len(images) != 2:
        raise Invalid("tagferry copy", "needs a SOURCE and a TARGET, or --from FILE")
    return CopyList((CopyTask(parse_image(images[0], field="SOURCE"), parse_image(images[1], field="TARGET")),))


def _tasks(wanted: CopyList, options: Namespace) -> list[CopyTask]:
    """Return the tasks with the options of the command, which go before those of a list."""
    selection = None
    if options.all_tags or options.tags or options.exclude_tags:
        selection = TagSelection(
            patterns=_patterns(options.tags, "--tags"), excluded=_patterns(options.exclude_tags, "--exclude-tags")
        )
    platforms = _platforms(options.platform)
    tasks = [
        task._replace(
            selection=selection or task.selection,
            platforms=platforms or task.platforms,
            referrers=options.referrers and task.referrers,
        )
        for task in wanted.tasks
    ]
    for task in tasks:
        for field, image in (("SOURCE", task.source), ("TARGET", task.target)):
            if task.selection is not None and image != image.without_image:
                raise Invalid(field, "must name no tag if several tags are copied", str(image))
        if task.target.digest is not None:
            raise Invalid("TARGET", "must name a tag; the digest is that of SOURCE", str(task.target))
        if isinstance(task.target, LayoutReference) and task.target.is_docker_archive:
            rule = (
                "must not use the transport docker-archive, which is only read; write an OCI archive, oci-archive:FILE"
            )
            raise Invalid("TARGET", rule, f"docker-archive:{task.target.path}")
    return tasks


def _platforms(texts: Sequence[str]) -> tuple[str, ...]:
    if not texts:
        return ()
    from tagferry.direct.platforms import parse_platform

    return tuple(dict.fromkeys(parse_platform(text) for text in texts))


def _patterns(texts: Sequence[str], field: str) -> tuple[TagPattern, ...]:
    if not texts:
        return ()
    from tagferry.patterns import Pattern

    return tuple(Pattern(text, field=field) for text in texts)


def _hosts(texts: Sequence[str], field: str) -> frozenset[str]:
    return frozenset(parse_host(text, field=field) for text in texts)


def _directory(name: str | None) -> str | None:
    if name is not None and not os.path.isdir(name):  # noqa: PTH112
        raise Invalid("--certs-dir", "must be a directory", name)
    return name


def _read(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.buffer.read().decode()
        with open(name, "rb") as file:  # noqa: PTH123 - a copy starts without pathlib
            return file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Invalid("--from", f"must name a readable list ({reason})", name) from None


def _run_until_interrupted(
    tasks: Sequence[CopyTask], access: RegistryAccess, options: CopyOptions, display: CopyDisplay, early: EarlySockets
) -> list[CopyResult]:
    # Imported modules live until exit, so the garbage collector need not scan them.
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    gc.enable()
    # Allocated and freed at once.
    bytes(_FREED_BLOCK)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(tasks, access, options, display, early))


async def _run(
    tasks: Sequence[CopyTask],
    access: RegistryAccess,
    options: CopyOptions,
    display: CopyDisplay,
    early: EarlySockets,
) -> list[CopyResult]:
    """Run copies and show their progress; after Ctrl-C or SIGTERM, leave uploads to the next process."""
    interrupted = asyncio.Event()
    stores = Stores(access, state_directory=state_directory(), is_leaving=interrupted.is_set, early=early)
    copier = DirectCopier(stores, options, on_result=display.result)
    copying = asyncio.create_task(copier.run(tasks))

    def interrupt() -> None:
        # Set first, so that the uploads leave their sessions to the next process.
        interrupted.set()
        copying.cancel()

    loop = asyncio.get_running_loop()
    loop.call_later(KEPT_SECONDS, early.close)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, interrupt)
    try:
        while not copying.done():
            await asyncio.wait([copying], timeout=_SHOW_SECONDS)
            display.progress(copier)
        return copying.result()
    finally:
        await stores.close()
