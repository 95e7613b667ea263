"""The figures as a chart in plain SVG: a bar for each program and workload, on a logarithmic scale of seconds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from bench.figures import Figures
from bench.peers import TUNED
from bench.report import times

_WIDTH, _LEFT, _RIGHT = 900, 120, 270
_TOP, _BAR, _GAP, _FOOT = 58, 17, 16, 34
_TITLE = "The same work in the same run: seconds on a logarithmic scale, shorter is better"
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.work, .ours { font-weight: 600; }
.quiet { fill: #59636e; }
.grid { stroke: #d1d9e0; }
.bar-ours { fill: #0969da; }
.bar-peer { fill: #a5adb6; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .quiet { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .bar-ours { fill: #4493f8; }
  .bar-peer { fill: #656c76; }
}
"""


def svg(works: Mapping[str, Figures], peers: Sequence[str]) -> str:
    """Return the chart; `peers` are the other programs, by their names in the figures."""
    groups = [(key, bars(key, figures, peers)) for key, figures in works.items()]
    values = [seconds for _, bars in groups for _, seconds, _ in bars]
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    height = _TOP + sum(len(bars) * _BAR + _GAP for _, bars in groups) + _FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        "<title>Seconds that tagferry and its peers take for the same work</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="16" y="24">{_TITLE}</text>',
        *_grid(low, high, height),
        *_groups(groups, low, high),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def bars(key: str, figures: Figures, peers: Sequence[str]) -> list[tuple[str, float, float | None]]:
    """Return program, seconds, and the ratio to tagferry; of each peer the setting with which it was faster."""
    ours: list[tuple[str, float, float | None]] = [("tagferry", figures["tagferry_s"], None)]
    if key == "REG":
        others = {name: name.replace("-", "_") for name in figures["runs"] if name != "tagferry"}
        pushes = ((name, figures[f"{at}_push_s"], figures[f"push_ratio_to_{at}"]) for name, at in others.items())
        return [*ours, *pushes]
    if "in_server_s" in figures:
        ours.append(("tagferry, running server", figures["in_server_s"], None))
    measured = [_faster_setting(peer, figures) for peer in peers if f"ratio_to_{peer}" in figures]
    return [*ours, *((peer, figures[f"{peer}_s"], figures[f"ratio_to_{peer}"]) for peer in measured)]


def _faster_setting(peer: str, figures: Figures) -> str:
    """Return a program, or the program with its best setting if it was faster with that."""
    settings = [name for name in (peer, f"{peer}{TUNED}") if f"{name}_s" in figures]
    return min(settings, key=lambda name: float(figures[f"{name}_s"]))


def _groups(
    groups: Sequence[tuple[str, Sequence[tuple[str, float, float | None]]]], low: int, high: int
) -> Iterator[str]:
    top = _TOP
    for key, bars in groups:
        middle = top + len(bars) * _BAR / 2 + 4
        yield f'<text class="work" x="{_LEFT - 12}" y="{middle:.1f}" text-anchor="end">{escape(key)}</text>'
        for name, seconds, ratio in bars:
            ours = ratio is None
            end = _x(seconds, low, high)
            yield (
                f'<rect class="bar-{"ours" if ours else "peer"}" x="{_LEFT}" y="{top + 1}" rx="2" '
                f'width="{max(end - _LEFT, 1):.1f}" height="{_BAR - 3}"/>'
            )
            label = f"{name} {_seconds(seconds)}" + ("" if ratio is None else f" · {times(ratio)}")
            style = "ours" if ours else "quiet"
            yield f'<text class="{style}" x="{end + 7:.1f}" y="{top + _BAR - 5}">{escape(label)}</text>'
            top += _BAR
        top += _GAP


def _grid(low: int, high: int, height: int) -> Iterator[str]:
    for power in range(low, high + 1):
        x = _x(10.0**power, low, high)
        yield f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - _FOOT + 4}"/>'
        label = f"{10.0**power:g} s"
        yield f'<text class="quiet" x="{x:.1f}" y="{height - 12}" text-anchor="middle">{label}</text>'


def _x(seconds: float, low: int, high: int) -> float:
    span = max(high - low, 1)
    return _LEFT + (math.log10(seconds) - low) / span * (_WIDTH - _LEFT - _RIGHT)


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 20 else f"{value:.1f} s" if value >= 2 else f"{value:.2f} s"
