"""Structured logging to standard error, as text or JSON lines, also for the standard library's loggers."""

import logging
import sys
from collections.abc import MutableMapping
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Literal

import structlog

from tagferry.errors import Invalid
from tagferry.printable import printable


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
        processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=processors)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatted(lines if style == "json" else console))
    handler.setLevel(level.upper())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    audit = logging.getLogger("tagferry.audit")
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


def _printed(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters, since clients and registries choose paths, names and messages."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value)
    return event
