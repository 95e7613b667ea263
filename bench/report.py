"""The figures as a table in Markdown."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import machine
from bench.figures import Figures
from bench.peers import TUNED
from bench.works import LONG, ON_LINK

TIMES = "\N{MULTIPLICATION SIGN}"
_NOTES = f"""\
Medians of interleaved runs, docker-registry as source and as target, each run with an emptied target. *Faster* is the
other program's time divided by tagferry's in the same run of the benchmark. CPU and memory are the client process's
(user and system time, peak resident memory); requests are what both registries' access logs counted.
A name with {TUNED} is the program with its best setting instead of its defaults."""
_LINK = (
    f"The link has a round trip of {LONG.rtt * 1000:.0f} ms and {LONG.rate * 8 / 1e6:.0f} Mbit/s, made by a forwarder "
    f"on loopback; a peer makes another run there while its runs take {ON_LINK:.0f} s together."
)


def markdown(works: Mapping[str, Figures], says: Mapping[str, str], about: Mapping[str, Any]) -> str:
    """The whole report."""
    copying = {key: figures for key, figures in works.items() if key != "REG"}
    parts = ["# Results", _facts(about)]
    if about["quick"]:
        parts.append("**A quick run of small works: it shows that everything runs, and no speed.**")
    if copying:
        peers = [name for name in about["programs"] if name != "tagferry"]
        parts += ["\n".join(_copying_table(copying, says, peers)), _losses(copying, peers), _NOTES]
        if any("100ms" in key for key in copying):
            parts.append(_LINK)
    if "REG" in works:
        parts += [f"## REG: {says['REG']}", "\n".join(_embedded_table(works["REG"]))]
    return "\n\n".join(parts) + "\n"


def _facts(about: Mapping[str, Any]) -> str:
    where = about["machine"]
    programs = ", ".join(f"{name} {version}" for name, version in about["programs"].items())
    return f"{programs}, docker-registry {where['docker_registry']}; {machine.sentence(where)}"


def _losses(works: Mapping[str, Figures], peers: Sequence[str]) -> str:
    """Return in which workloads tagferry takes longer than a peer."""
    slower = {
        key: ", ".join(f"{peer} ({times(ratio)})" for peer in peers if (ratio := _ratio(figures, peer)) < 1)
        for key, figures in works.items()
    }
    losses = "; ".join(f"{key} than {those}" for key, those in slower.items() if those)
    return f"**tagferry is slower in**: {losses or 'none of these works'}."


def _ratio(figures: Figures, peer: str) -> float:
    return float(figures.get(f"ratio_to_{peer}", math.inf))


def _copying_table(works: Mapping[str, Figures], says: Mapping[str, str], peers: Sequence[str]) -> Iterator[str]:
    yield "| work | program | time | tagferry is faster by | CPU | CPU per GiB | peak memory | requests | runs |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for key, figures in works.items():
        share = f", {figures['of_link_rate']:.0%} of the link's rate" if "of_link_rate" in figures else ""
        yield _row(f"**{key}**: {says[key]}{share}", "**tagferry**", figures, "", faster="")
        if "in_server_s" in figures:
            ratio = f"(skopeo) {figures['in_server_ratio_to_skopeo']:.1f}{TIMES}"
            seconds = _seconds(figures["in_server_s"])
            yield f"| | tagferry, one call of a running server | {seconds} | {ratio} | | | | | |"
        if "floor_s" in figures:
            start = "Python's start alone, with asyncio, ssl and uvloop"
            yield f"| | {start} | {_seconds(figures['floor_s'])} | | | | | | |"
        for peer in peers:
            if f"{peer}_requests" in figures:
                yield _row("", peer, figures, f"{peer}_", faster=times(figures[f"ratio_to_{peer}"]))


def _row(work: str, program: str, figures: Figures, prefix: str, *, faster: str) -> str:
    wall = figures[f"{prefix}s" if prefix else "tagferry_s"]
    per_gib = figures[f"{prefix}cpu_s_per_gib"]
    cells = (
        work,
        program,
        _seconds(wall),
        faster,
        _seconds(figures[f"{prefix}cpu_s"]),
        "-" if per_gib is None else _seconds(per_gib),
        f"{figures[f'{prefix}peak_rss_mib']:.0f} MiB",
        f"{figures[f'{prefix}requests']:,}",
        str(figures["runs"][prefix.rstrip("_") or "tagferry"]),
    )
    return f"| {' | '.join(cells)} |"


def _embedded_table(figures: Figures) -> Iterator[str]:
    yield (
        f"| registry | push, stored durably | pull | {figures['manifests']} manifests, one after the other "
        "| CPU per GiB pushed | CPU per GiB pulled | peak memory | disk in the end |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for name in figures["runs"]:
        ours = name == "tagferry"
        at, prefix = name.replace("-", "_"), "" if ours else f"{name.replace('-', '_')}_"
        durations = (
            _seconds(figures[f"{prefix}{work}_s"]) + ("" if ours else f", {times(figures[f'{work}_ratio_to_{at}'])}")
            for work in ("push", "pull", "manifests")
        )
        cpu = (_seconds(figures[f"{prefix}{key}"]) for key in ("cpu_s_per_gib", "pull_cpu_s_per_gib"))
        sizes = (f"{figures[f'{prefix}{key}']:.0f} MiB" for key in ("peak_rss_mib", "disk_mib"))
        says = "**tagferry's embedded registry**" if ours else name
        yield f"| {' | '.join((says, *durations, *cpu, *sizes))} |"


def times(ratio: float) -> str:
    """Return a ratio as text."""
    return f"{ratio:.1f}{TIMES}" if ratio >= 10 else f"{ratio:.2f}{TIMES}"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"
