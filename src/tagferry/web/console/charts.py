"""Charts, drawn as SVG by the server: no script, and no inline style, which the content security policy refuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tagferry.sync.jobs.summary import HourSummary

WIDTH, HEIGHT = 720, 96
_GAP = 4.0
_LEAST = 3.0
"""The height of the smallest bar, so that a single failure among thousands of successes can be seen."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar: a rectangle in a color of the design."""

    tone: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The jobs of one hour; its parts are stacked."""

    hour: HourSummary
    x: float
    width: float
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class HourChart:
    """A bar for each hour.

    Attributes:
        most: the number of jobs of the highest bar.
    """

    bars: tuple[Bar, ...]
    most: int

    @property
    def begin(self) -> datetime:
        """The beginning of the first hour."""
        return self.bars[0].hour.begin

    @classmethod
    def of(cls, hours: Sequence[HourSummary]) -> "HourChart":
        """Return the chart of these hours."""
        most = max((hour.succeeded + hour.failed + hour.conflicts for hour in hours), default=0)
        step = WIDTH / max(1, len(hours))
        bars = (Bar(hour, index * step + _GAP / 2, step - _GAP, _parts(hour, most)) for index, hour in enumerate(hours))
        return cls(tuple(bars), most)


def _parts(hour: HourSummary, most: int) -> tuple[Part, ...]:
    parts, top = [], float(HEIGHT)
    # Failures are at the bottom, where their heights can be compared.
    for tone, count in (("bad", hour.failed), ("warning", hour.conflicts), ("good", hour.succeeded)):
        if count:
            height = max(_LEAST, (HEIGHT - 2 * _LEAST) * count / most)
            top -= height
            parts.append(Part(tone, round(max(top, 0.0), 1), round(height, 1)))
    return tuple(parts)
