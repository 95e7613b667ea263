"""Send spans to a collector by OTLP over HTTP, in the background."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from tagferry.events import SparseEvents
from tagferry.redaction import redacted

_PATH = "/v1/traces"
_STOP_SECONDS = 5.0

sparse = SparseEvents(__name__)


class _Exporter:
    """Sends spans, and logs once a minute that this fails, instead of with a traceback each time.

    Args:
        exporter: OpenTelemetry's exporter.
        endpoint: the collector, for the log.
    """

    def __init__(self, exporter: Any, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint

    def export(self, spans: Sequence[Any]) -> Any:
        """Send spans; they are lost if that fails."""
        reason = "the collector refused them or does not answer"
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            result, reason = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        if result is not SpanExportResult.SUCCESS:
            sparse.warning("could not send traces", endpoint=self._endpoint, spans=len(spans), reason=redacted(reason))
        return result

    def shutdown(self) -> None:
        """End a transfer in progress."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: nothing is kept here."""
        return bool(timeout_millis)


@asynccontextmanager
async def exporting(endpoint: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
    """Yield a processor that sends spans to a collector; at the end, the last ones are sent within some seconds.

    The sizes of its queue and its batches, the time limit, compression and certificates are those of OpenTelemetry's
    environment variables (`OTEL_BSP_…`, `OTEL_EXPORTER_OTLP_…`). Spans that find the queue full are lost.

    Args:
        endpoint: the URL of the collector, with or without `/v1/traces`.
        headers: sent with each request, such as for authentication.
    """
    for noisy in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    url = endpoint.rstrip("/")
    url = url if url.endswith(_PATH) else f"{url}{_PATH}"
    exporter: Any = _Exporter(OTLPSpanExporter(endpoint=url, headers=dict(headers) or None), url)
    processor = BatchSpanProcessor(exporter)
    try:
        yield processor
    finally:
        # A collector that does not answer must not keep the process.
        stopping = threading.Thread(target=processor.shutdown, name="sending the last traces", daemon=True)
        stopping.start()
        await asyncio.to_thread(stopping.join, _STOP_SECONDS)
