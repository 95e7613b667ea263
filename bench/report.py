"""The figures as a table in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.figures import Figures
from bench.works import LONG

TIMES = "\N{MULTIPLICATION SIGN}"
_NOTES = """\
Medians of interleaved runs, docker-registry as source and as target, each run with an emptied target. *Faster* is the
other program's time divided by tagferry's in the same run of the benchmark. CPU and memory are the client process's
(user and system time, peak resident memory); requests are what both registries' access logs counted."""
_LINK = (
    f"The link has a round trip of {LONG.rtt * 1000:.0f} ms and {LONG.rate * 8 / 1e6:.0f} Mbit/s, made by a forwarder "
    "on loopback; the peers make one run there."
)


def markdown(works: Mapping[str, Figures], says: Mapping[str, str], about: Mapping[str, Any]) -> str:
    """The whole report."""
    copying = {key: figures for key, figures in works.items() if key != "REG"}
    parts = ["# Results", _facts(about)]
    if about["quick"]:
        parts.append("**A quick run of small works: it shows that everything runs, and no speed.**")
    if copying:
        peers = [name for name in about["programs"] if name != "tagferry"]
        parts += ["\n".join(_copying_table(copying, says, peers)), _NOTES]
        if any("100ms" in key for key in copying):
            parts.append(_LINK)
    if "REG" in works:
        parts += [f"## REG: {says['REG']}", "\n".join(_embedded_table(works["REG"]))]
    return "\n\n".join(parts) + "\n"


def _facts(about: Mapping[str, Any]) -> str:
    machine = about["machine"]
    programs = ", ".join(f"{name} {version}" for name, version in about["programs"].items())
    return (
        f"{programs}, docker-registry {machine['docker_registry']}, Python {machine['python']}; {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}."
    )


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
        for peer in peers:
            if f"{peer}_requests" in figures:
                yield _row("", peer, figures, f"{peer}_", faster=f"{figures[f'ratio_to_{peer}']:.1f}{TIMES}")


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
    yield "| | tagferry's embedded registry | docker-registry | tagferry is faster |"
    yield "|---|--:|--:|--:|"
    lines = (
        ("push, stored durably", "push"),
        ("pull", "pull"),
        (f"{figures['manifests']} manifests, one after the other", "manifests"),
    )
    for what, name in lines:
        ours, theirs = _seconds(figures[f"{name}_s"]), _seconds(figures[f"docker_registry_{name}_s"])
        yield f"| {what} | {ours} | {theirs} | {figures[f'{name}_ratio_to_docker_registry']:.1f}{TIMES} |"
    cpu = (_seconds(figures["cpu_s_per_gib"]), _seconds(figures["docker_registry_cpu_s_per_gib"]))
    yield f"| the server's CPU per GiB pushed | {cpu[0]} | {cpu[1]} | |"
    memory = (figures["peak_rss_mib"], figures["docker_registry_peak_rss_mib"])
    yield f"| the server's peak memory | {memory[0]:.0f} MiB | {memory[1]:.0f} MiB | |"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"
