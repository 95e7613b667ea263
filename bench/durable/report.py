"""The figures of the queue as tables in Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from bench import machine
from bench.figures import Figures
from bench.report import TIMES

_KINDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def markdown(results: Mapping[str, Figures], about: Mapping[str, Any]) -> str:
    """The whole report."""
    parts = ["# The queue and its workers", _facts(about)]
    if about["quick"]:
        parts.append("**A quick run of small works: it shows that everything runs, and no speed.**")
    tables = {"FIRST": _first, "SAME": _same, "QUEUE": _queue, "CLUSTER": _cluster}
    for key, figures in results.items():
        parts.append("\n".join(tables[key](figures)))
    return "\n\n".join(parts) + "\n"


def _facts(about: Mapping[str, Any]) -> str:
    where = about["machine"]
    return f"PostgreSQL {about['postgresql']}, docker-registry {where['docker_registry']}; {machine.sentence(where)}"


def _first(figures: Figures) -> Iterator[str]:
    yield f"## FIRST: from a request to the first byte that moves, {figures['requests']} requests\n"
    yield "| | first question to the source | first byte | 95th percentile | goal | |"
    yield "|---|--:|--:|--:|--:|---|"
    rows = {
        "sqlite": "the server copies itself, SQLite",
        "postgresql": "the server copies itself, PostgreSQL",
        "queue": "a worker copies, through the queue",
    }
    for name, says in rows.items():
        one = figures[name]
        yield (
            f"| {says} | {one['first_question_median_ms']:.1f} ms | **{one['median_ms']:.1f} ms** "
            f"| {one['p95_ms']:.1f} ms | {one['goal_ms']} ms | {_met(one['median_ms'], one['goal_ms'])} |"
        )


def _same(figures: Figures) -> Iterator[str]:
    yield f"## SAME: one request of {figures['tags']} tags with nothing to do\n"
    yield "| | time | goal | |"
    yield "|---|--:|--:|---|"
    for name, says in _KINDS.items():
        seconds = figures[name]["median_s"]
        yield f"| {says} | **{seconds:.3f} s** | {figures['goal_s']} s | {_met(seconds, figures['goal_s'])} |"


def _queue(figures: Figures) -> Iterator[str]:
    yield (
        f"## QUEUE: jobs that do nothing, of {figures['organizations']} organizations, {figures['slots']} slots, "
        "one process\n"
    )
    yield (
        "| | | jobs | put in | in all | jobs a second | CPU | PostgreSQL's CPU | memory grew by | organizations apart "
        "| a newcomer waited | start when idle | CPU when idle |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for kind, says in _KINDS.items():
        yield _load(says, "tagferry", figures["jobs"], figures[kind]["whole"])
        yield _load("", "tagferry", figures["compared"], figures[kind]["part"])
        if "dbos" in figures[kind]:
            name = f"DBOS Transact {figures['dbos_version']}"
            yield _load("", name, figures["compared"], figures[kind]["dbos"])
    for kind, says in _KINDS.items():
        if ratios := figures[kind].get("ratios"):
            yield (
                f"\n{says}, DBOS Transact's figure divided by tagferry's: time {ratios['total_s']}{TIMES}, "
                f"CPU {ratios['cpu_s']}{TIMES}, a newcomer's wait {ratios['newcomer_ms']}{TIMES}, "
                f"start when idle {ratios['start_ms']}{TIMES}, CPU when idle {ratios.get('idle_cpu', '-')}{TIMES}."
            )


def _load(kind: str, program: str, jobs: int, one: Figures) -> str:
    cells = (
        kind,
        program,
        f"{jobs:,}",
        f"{one['accept_s']:.1f} s",
        f"{one['total_s']:.1f} s",
        f"{one['jobs_per_s']:.0f}",
        f"{one['cpu_s']:.1f} s",
        f"{one['server_cpu_s']:.1f} s" if one["server_cpu_s"] else "-",
        f"{one['memory_mib']:.0f} MiB",
        f"{one['spread']:.0f}",
        f"{one['newcomer_ms']:.0f} ms",
        f"{one['start_ms']:.0f} ms",
        f"{one['idle_cpu']:.1%}",
    )
    return f"| {' | '.join(cells)} |"


def _cluster(figures: Figures) -> Iterator[str]:
    yield (
        f"## CLUSTER: {figures['tags']} tags of {figures['blobs']} blobs to a registry {figures['rtt_ms']} ms away, "
        f"{figures['slots']} slots a worker\n"
    )
    yield "| workers | time | faster by | blobs sent | requests at the target |"
    yield "|--:|--:|--:|--:|--:|"
    for number, one in figures["workers"].items():
        faster = f"{one['speed_up']:.1f}{TIMES}"
        yield f"| {number} | {one['s']:.1f} s | {faster} | {one['blobs_sent']} | {one['requests']:,} |"


def _met(value: float, goal: float) -> str:
    return "met" if value < goal else "missed"
