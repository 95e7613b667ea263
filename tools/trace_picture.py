"""Draw the trace of one synchronization: `python -m tools.trace_picture` writes docs/images/trace.svg.

It runs two processes, one that serves and one that copies, and PostgreSQL, and collects their spans.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from random import Random

from tagferry.names import Tag
from tests.support.deployment import eventually
from tests.support.images import image
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.trace_collector import CollectedSpan, TraceCollector, trace_collector
from tests.support.traced_processes import SOUTH, two_processes

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "trace.svg"
_REQUEST, _JOB, _QUEUE = "POST synchronize images", "sync job", "queue"

_WIDTH, _LABELS, _RIGHT = 960, 300, 80
_TOP, _ROW, _BAR, _FOOT, _INDENT = 64, 19, 12, 20, 14
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.quiet { fill: #59636e; }
.grid { stroke: #d1d9e0; }
.serve { fill: #0969da; }
.worker { fill: #1a7f37; }
.queue { fill: #bf8700; }
.client { opacity: 0.55; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .quiet { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .serve { fill: #4493f8; }
  .worker { fill: #3fb950; }
  .queue { fill: #d29922; }
}
"""


def draw(spans: Sequence[CollectedSpan]) -> str:
    """Return the trace as SVG: a row for each span, below the one that it is a part of."""
    rows = list(_rows(spans))
    (request,) = [span for span in spans if span.name == _REQUEST]
    begin, end = min(span.begin for span in spans), max(span.end for span in spans)
    height = _TOP + _ROW * len(rows) + _FOOT
    scale = (_WIDTH - _LABELS - _RIGHT) / (end - begin)
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">',
        '<title id="title">The trace of one synchronization, from the request over the queue to the tag</title>',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="0" y="18">One synchronization, {_shown(end - begin)}, in two processes</text>',
        *_legend(),
        *_grid(end - begin, scale, height),
    ]
    for number, (depth, span) in enumerate(rows):
        y = _TOP + number * _ROW
        x, width = _LABELS + (span.begin - begin) * scale, max(1.5, (span.end - span.begin) * scale)
        kind = "queue" if span.name == _QUEUE else "serve" if span.process == request.process else "worker"
        client = " client" if span.kind == "CLIENT" else ""
        lines += [
            f'<text x="{depth * _INDENT}" y="{y + _BAR - 1}">{escape(_label(span))}</text>',
            f'<rect class="{kind}{client}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
            f'<text class="quiet" x="{x + width + 5:.1f}" y="{y + _BAR - 1}">{_shown(span.end - span.begin)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _rows(spans: Sequence[CollectedSpan]) -> Iterator[tuple[int, CollectedSpan]]:
    """Yield each span with its depth, parents first, and by their begin."""
    below: dict[str, list[CollectedSpan]] = {}
    known = {span.id for span in spans}
    for span in sorted(spans, key=lambda one: (one.begin, -one.end)):
        below.setdefault(span.parent if span.parent in known else "", []).append(span)

    def walk(parent: str, depth: int) -> Iterator[tuple[int, CollectedSpan]]:
        for span in below.get(parent, ()):
            yield depth, span
            yield from walk(span.id, depth + 1)

    return walk("", 0)


def _label(span: CollectedSpan) -> str:
    found: Mapping[str, object] = span.attributes
    if span.kind == "CLIENT":
        kind = next((part for part in ("blobs", "manifests", "tags", "referrers") if f"/{part}/" in str(found)), "")
        return f"{span.name} {kind} at {found['tagferry.registry']}".replace("  ", " ")
    if span.name == "blob":
        return f"blob: {found['tagferry.outcome']}"
    if span.name == _JOB:
        return f"sync job: {found['tagferry.tag']}, {found['tagferry.status']}"
    return span.name


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _legend() -> Iterator[str]:
    x = 0
    for kind, words in (
        ("serve", "tagferry serve"),
        ("queue", "in the queue (the database)"),
        ("worker", "tagferry worker"),
        ("worker client", "a request to a registry"),
    ):
        yield f'<rect class="{kind}" x="{x}" y="32" width="12" height="12" rx="2"/>'
        yield f'<text class="quiet" x="{x + 18}" y="42">{words}</text>'
        x += 60 + 6 * len(words)


def _grid(seconds: float, scale: float, height: int) -> Iterator[str]:
    steps = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    step = next((step for step in steps if seconds / step <= 8), steps[-1])
    at = 0.0
    while at <= seconds:
        x = _LABELS + at * scale
        yield f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height - _FOOT}"/>'
        yield f'<text class="quiet" x="{x:.1f}" y="{height - 4}">{at * 1000:g} ms</text>'
        at += step


async def _collect(folder: Path, collector: TraceCollector, postgres: PostgresServer) -> list[CollectedSpan]:
    """Synchronize a tag whose base is in another repository of the target; return the spans of its trace."""
    random = Random(1)  # noqa: S311
    base, first, second = (random.randbytes(size) for size in (3_000_000, 1_000_000, 2_000_000))
    content = {Tag("v1"): image(base, first), Tag("v2"): image(base, second)}
    async with two_processes(folder, collector.url, postgres, content) as programs:
        for tag, organization in zip(content, ("team", "release"), strict=True):
            collector.spans.clear()
            body = {"imageTag": [tag], "remoteNamespace": organization, "remoteRegionId": SOUTH, "override": True}
            await asyncio.to_thread(programs.request, "team", "app", body)

            async def is_complete() -> bool:
                return bool(collector.named(_JOB) and collector.named(_REQUEST))

            await eventually(is_complete)
    (request,) = collector.named(_REQUEST)
    return [span for span in collector.spans if span.trace == request.trace]


def main() -> None:
    """Draw the picture."""
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    with tempfile.TemporaryDirectory() as folder, trace_collector() as collector, postgres_server() as postgres:
        spans = asyncio.run(_collect(Path(folder), collector, postgres))
    PICTURE.write_text(draw(spans), "utf-8")
    sys.stdout.write(f"{len(spans)} spans in {PICTURE}\n")


if __name__ == "__main__":
    main()
