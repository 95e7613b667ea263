"""Start traces, if the configuration names a collector."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from tagferry.coordination.worker_rows import worker_name
from tagferry.errors import Invalid
from tagferry.regular_file import open_regular
from tagferry.settings import TracingSettings

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.1."""
_EXTRA = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@asynccontextmanager
async def traced(settings: TracingSettings) -> AsyncIterator[None]:
    """Record traces while the context is open, if the settings say so.

    Raises:
        Invalid: OpenTelemetry is not installed, or the file with the headers cannot be used.
    """
    if settings.endpoint is None:
        yield
        return
    headers = check_tracing(settings)
    # Imported here, since the libraries are optional, and take time to load.
    from tagferry.tracing.export import exporting
    from tagferry.tracing.recorder import recording

    async with exporting(settings.endpoint, headers) as processor:
        with recording(
            processor,
            sample_ratio=settings.sample_ratio,
            propagates=settings.propagate_to_registries,
            **{"service.instance.id": worker_name()},
        ):
            yield


def check_tracing(settings: TracingSettings) -> dict[str, str]:
    """Return the headers for the collector; raise Invalid if traces are configured and cannot be recorded."""
    if settings.endpoint is None:
        return {}
    if not all(map(_is_installed, _EXTRA)):
        raise Invalid("tracing.endpoint", 'needs OpenTelemetry; install it with: pip install "tagferry[otel]"')
    return _read_headers(settings.headers_file) if settings.headers_file is not None else {}


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _read_headers(path: Path) -> dict[str, str]:
    try:
        with open(open_regular(path, follow_links=True), encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Invalid("tracing.headers_file", f'must be a file that can be read: "{path}" ({reason})') from None
    headers = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, value = (part.strip() for part in line.partition("="))
        if not separator or _HEADER_NAME.fullmatch(name) is None:
            raise Invalid("tracing.headers_file", f'must have lines NAME=VALUE: "{path}", line {number}')
        if not value.isascii() or not value.isprintable():
            raise Invalid("tracing.headers_file", f'must have values of printable ASCII: "{path}", line {number}')
        headers[name.lower()] = value
    return headers
