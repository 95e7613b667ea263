"""The tables of the figures."""

from collections.abc import Iterator, Mapping, Sequence

from bench.console.beside import Beside
from bench.console.visits import Visit
from bench.measure import MIB, middle

GOAL_SECONDS = 0.3
"""The server's time for each page."""
EXIT_GOAL_SECONDS = 2.0
"""The time to stop with open consoles."""


def pages_table(columns: Mapping[str, Mapping[str, Visit]]) -> str:
    """Return the table of the pages' times: for each database the first request, and the median and worst of others."""
    names = list(columns)
    head = "".join(f" {name}: first | whole | median | worst | CPU |" for name in names)
    lines = [f"| page |{head}", "|---|" + "--:|" * (5 * len(names))]
    for page in next(iter(columns.values()), {}):
        cells = [cell for name in names for cell in _times(columns[name][page])]
        lines.append(f"| {page} | {' | '.join(cells)} |")
    return "\n".join(lines)


def transfers_table(visits: Mapping[str, Visit]) -> str:
    """Return the table of bytes and requests, which are the same on all databases."""
    lines = [
        "| page | empty cache: requests | kB | opened again: requests | kB | page, decoded kB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for page, one in visits.items():
        cold = f"{one.cold_requests} | {one.cold_bytes / 1000:.1f}"
        warm = f"{one.warm_requests} | {one.warm_bytes / 1000:.1f}"
        lines.append(f"| {page} | {cold} | {warm} | {one.decoded_bytes / 1000:.1f} |")
    return "\n".join(lines)


def slow_pages(columns: Mapping[str, Mapping[str, Visit]]) -> str:
    """Return which pages miss the goal, and how."""
    found = [
        f"{page} ({database}: {kind} {seconds * 1000:.0f} ms)"
        for database, visits in columns.items()
        for page, one in visits.items()
        for kind, seconds in (("first", one.first), ("median", one.warm), ("worst", one.worst))
        if seconds > GOAL_SECONDS
    ]
    return f"Above {GOAL_SECONDS * 1000:.0f} ms: {'; '.join(found) or 'nothing'}."


def consoles_table(columns: Mapping[str, Sequence[Beside]]) -> str:
    """Return the table of open consoles."""
    each = [(database, one) for database, found in columns.items() for one in found]
    lines = [
        f"| while jobs copy | {' | '.join(f'{database}, {one.consoles} consoles' for database, one in each)} |",
        "|---|" + "--:|" * len(each),
    ]
    for name, cells in _rows([one for _, one in each]):
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rows(each: Sequence[Beside]) -> Iterator[tuple[str, list[str]]]:
    yield "memory of the server", [f"{one.memory / MIB:.0f} MiB" for one in each]
    yield "CPU of a second", [f"{one.cpu:.2f} s" for one in each]
    yield "messages received in a second", [f"{one.messages:.0f}" for one in each]
    for name, part in (("list of 10 repositories", "listed"), ("sync of a tag in place", "in_place")):
        yield f"{name}, median", [_milliseconds(middle(getattr(one, part))) for one in each]
        yield f"{name}, 99 of 100", [_milliseconds(_percentile(getattr(one, part), 0.99)) for one in each]


def _times(one: Visit) -> list[str]:
    return [_milliseconds(seconds) for seconds in (one.first, one.whole, one.warm, one.worst, one.cpu)]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
