"""Structured logging to standard error, as text or JSON lines, also for the standard library's loggers."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Literal

import structlog

from tagferry.errors import Invalid
from tagferry.events import occurrences, report_repeated
from tagferry.printable import printable
from tagferry.redaction import redacted, without_secret_fields

REPEATED_LINES = 100
"""Lines of the same event that are logged within a minute, if they are warnings or errors."""
_REPEATED_SECONDS = 60.0
_COMPLETE = ("tagferry.audit", "tagferry.access", "tagferry.jobs")
"""The loggers of which every line counts."""


def configure(*, style: Literal["console", "json"], level: str, audit_log: Path | None = None) -> None:
    """Set up logging for this process.

    Args:
        style: text or JSON lines.
        level: the minimum level.
        audit_log: a file for the audit log as JSON lines, independent of the level. It may be rotated at any time.

    Raises:
        Invalid: the audit log cannot be written.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    lines: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback  # the rich one would show local variables, including secrets
    console = [_printed, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        # First, so that a line that is not written costs nothing more.
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )

    def formatted(last: list[Any]) -> logging.Formatter:
        processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_secrets, *last]
        return _RedactingFormatter(foreign_pre_chain=shared, processors=processors)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatted(lines if style == "json" else console))
    handler.setLevel(level.upper())
    handler.addFilter(_is_logged)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    audit = logging.getLogger("tagferry.audit")
    for before in audit.handlers:
        before.close()
    audit.handlers.clear()
    if audit_log is not None:
        audit.setLevel(logging.INFO)
        try:
            audit.addHandler(WatchedFileHandler(audit_log))
        except OSError as error:
            raise Invalid("audit_log", f"must be a writable file ({error.strerror})") from None
        audit.handlers[0].setFormatter(formatted(lines))
    for noisy in ("sqlalchemy", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Clients such as docker and skopeo try TLS first, which is not worth a warning each time.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


@asynccontextmanager
async def reporting_repeated_events(seconds: float = 5.0) -> AsyncIterator[None]:
    """Report at the end of each interval how often events occurred that had no line, while the context is open.

    Args:
        seconds: the time between two looks at the intervals.
    """

    async def report() -> None:
        while True:
            await asyncio.sleep(seconds)
            report_repeated()

    reporting = asyncio.create_task(report(), name="reporting repeated events")
    try:
        yield
    finally:
        reporting.cancel()
        with suppress(asyncio.CancelledError):
            await reporting
        report_repeated(at_once=True)


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Removes secrets from finished lines, so that it does not matter how they got in."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def _is_logged(record: logging.LogRecord) -> bool:
    """Return whether to log a line: of a warning or error that repeats, only a number of lines is logged."""
    if record.levelno < logging.WARNING or record.name in _COMPLETE:
        return True
    event = str(record.msg.get("event")) if isinstance(record.msg, dict) else str(record.msg)
    report = partial(_report_left_out, record.name, event)
    key = (record.name, record.levelno, event)
    times = occurrences(key, seconds=_REPEATED_SECONDS, lines=REPEATED_LINES, report=report)
    if times > 1:
        report(times - 1)
    return times > 0


def _report_left_out(name: str, event: str, times: int) -> None:
    structlog.get_logger(__name__).warning("left out repeated log lines", left_out=event, module=name, times=times)


def _without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide fields whose names say that they are secrets."""
    hidden: MutableMapping[str, Any] = without_secret_fields(event)
    return hidden


def _printed(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters, since clients and registries choose paths, names and messages."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value)
    return event
