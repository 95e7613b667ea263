"""The chart of the README: the works with many tags behind the link, on a linear scale of seconds."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from bench.chart import bars
from bench.figures import Figures

WORKS = {"MANY-100ms": "{tags} tags to a registry 100 ms away", "SAME-100ms": "the same again, all up to date"}
"""The heading of each work."""
COLORS = {
    "light": {"text": "#1f2328", "ours": "#0969da", "peer": "#a5adb6"},
    "dark": {"text": "#f0f6fc", "ours": "#4493f8", "peer": "#656c76"},
}
_WIDTH, _LEFT, _LONGEST = 860, 194, 540
_LINE, _BAR, _GAP = 24, 16, 28


def svg(works: Mapping[str, Figures], peers: Sequence[str], colors: Mapping[str, str]) -> str:
    """Return the chart, with the faster setting of each peer; `peers` are their names without the setting."""
    measured = {key: sorted(bars(key, works[key], peers), key=lambda bar: bar[1]) for key in WORKS}
    longest = max(seconds for lines in measured.values() for _, seconds, _ in lines)
    height = sum(_LINE * (len(lines) + 1) + _GAP for lines in measured.values())
    title = "Seconds to copy tags to a registry 100 ms away, and to find that all of them are up to date"
    size, label = f'width="{_WIDTH}" height="{height}"', 'role="img" aria-labelledby="title"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {size} {label}>',
        f'<title id="title">{title}</title>',
        "<style>",
        f"text {{ font: 13px system-ui, sans-serif; fill: {colors['text']}; }}",
        ".head, .ours { font-weight: 600; }",
        f".bar {{ fill: {colors['peer']}; }}",
        f".bar-ours {{ fill: {colors['ours']}; }}",
        "</style>",
    ]
    top = _LINE
    for key, lines in measured.items():
        parts.append(f'<text class="head" x="12" y="{top}">{WORKS[key].format(tags=works[key]["tags"])}</text>')
        parts += _lines(lines, top, longest)
        top += _LINE * (len(lines) + 1) + _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _lines(lines: Sequence[tuple[str, float, float | None]], top: int, longest: float) -> Iterator[str]:
    for number, (name, seconds, ratio) in enumerate(lines, 1):
        text, bar = ("", "bar") if ratio is not None else (' class="ours"', "bar-ours")
        base = top + number * _LINE
        width = max(round(seconds / longest * _LONGEST), 2)
        shown = f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"
        yield (
            f'<text{text} x="{_LEFT - 12}" y="{base}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{bar}" x="{_LEFT}" y="{base - 12}" width="{width}" height="{_BAR}" rx="2"/>'
            f'<text{text} x="{_LEFT + width + 8}" y="{base}">{shown}</text>'
        )
