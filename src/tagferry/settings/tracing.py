"""The section `[tracing]`."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from tagferry.settings import rules
from tagferry.settings.section import Section


def _collector(value: str) -> str:
    if "@" in value:
        raise ValueError("must not contain credentials; put a header with them into headers_file")
    return rules.http_url(value)


class TracingSettings(Section):
    """Traces by OpenTelemetry, which need the extra `otel`."""

    endpoint: Annotated[str, AfterValidator(_collector)] | None = None
    """The URL of a collector that accepts OTLP over HTTP, such as `http://127.0.0.1:4318`. By default, there are no
    traces."""
    sample_ratio: float = Field(1.0, ge=0, le=1)
    """The share of the traces that begin here and are recorded. An authenticated client that sends `traceparent`
    decides itself; one that is not authenticated can only decide that its requests are not recorded."""
    headers_file: Path | None = None
    """A file with headers for the collector, one `NAME=VALUE` a line, such as for its authentication; relative to the
    configuration file."""
    propagate_to_registries: bool = False
    """If true, requests to the regions' registries carry `traceparent`, so that their traces continue these."""
