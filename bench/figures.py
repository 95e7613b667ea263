"""Medians and ratios of the runs, as in results.json."""

from collections.abc import Sequence
from typing import Any

from bench.copying import Outcome, Sample
from bench.embedded import Embedded, Exercise
from bench.measure import GIB, MIB, middle
from bench.registries import by_kind, repeated_downloads

Figures = dict[str, Any]


def of_copying(outcome: Outcome) -> Figures:
    """Return the figures of a workload that copies images."""
    ours, theirs = outcome.samples["tagferry"], outcome.samples["skopeo"]
    moved = 0 if outcome.work.in_place else outcome.images.size
    seconds = _wall(ours)
    figures: Figures = {
        "tagferry_s": round(seconds, 3),
        "skopeo_s": round(_wall(theirs), 3),
        "ratio_to_skopeo": round(_wall(theirs) / seconds, 2),
        "cpu_s": round(_cpu(ours), 3),
        "cpu_s_per_gib": round(_cpu(ours) * GIB / moved, 2) if moved else None,
        "peak_rss_mib": round(_rss(ours) / MIB, 1),
        "requests": round(_requests(ours)),
        "requests_by_kind": by_kind(ours[-1].requests),
        "blobs_read_again": max(repeated_downloads(sample.requests) for sample in ours),
        "tags": len(outcome.images.tags),
        "blobs": outcome.images.blobs,
        "bytes": outcome.images.size,
        "runs": {name: len(samples) for name, samples in outcome.samples.items()},
        "all_s": {name: [round(sample.run.wall, 3) for sample in samples] for name, samples in outcome.samples.items()},
    }
    if outcome.served:
        figures["in_server_s"] = round(middle(outcome.served), 3)
        figures["in_server_ratio_to_skopeo"] = round(_wall(theirs) / middle(outcome.served), 2)
        figures["all_s"]["in_server"] = [round(one, 3) for one in outcome.served]
    if outcome.floor:
        figures["floor_s"] = round(middle(outcome.floor), 3)
        figures["all_s"]["floor"] = [round(one, 3) for one in outcome.floor]
    if outcome.failed:
        figures["failed"] = sorted(outcome.failed)
    link = outcome.work.link or outcome.work.source_link
    if link is not None and moved:
        figures["of_link_rate"] = round(moved / seconds / link.rate, 3)
    for name, samples in outcome.samples.items():
        if name != "tagferry":
            figures |= _of_peer(name, samples, moved, seconds)
    return figures


def of_embedded(outcome: Embedded) -> Figures:
    """Return the figures of the embedded registry: the push is the workload; skopeo is not involved."""
    ours = outcome.exercises["tagferry"]
    figures: Figures = {
        "tagferry_s": _median(ours, "push"),
        "skopeo_s": None,
        "ratio_to_skopeo": None,
        **_of_registry(ours, outcome.size),
        "requests": round(middle(outcome.requests)),
        "bytes": outcome.size,
        "manifests": outcome.manifests,
        "runs": {name: len(exercises) for name, exercises in outcome.exercises.items()},
    }
    for name, theirs in outcome.exercises.items():
        for work in ("push", "pull"):
            figures.setdefault(f"all_{work}_s", {})[name] = [round(getattr(one, work), 3) for one in theirs]
        if name != "tagferry":
            prefix = name.replace("-", "_")
            figures |= {f"{prefix}_{key}": value for key, value in _of_registry(theirs, outcome.size).items()}
            for work in ("push", "pull", "manifests"):
                figures[f"{work}_ratio_to_{prefix}"] = round(_median(theirs, work) / _median(ours, work), 2)
    return figures


def _of_registry(exercises: Sequence[Exercise], size: int) -> Figures:
    return {
        **{f"{work}_s": _median(exercises, work) for work in ("push", "pull", "manifests")},
        "cpu_s_per_gib": round(_median(exercises, "push_cpu") * GIB / size, 2),
        "pull_cpu_s_per_gib": round(_median(exercises, "pull_cpu") * GIB / size, 2),
        "peak_rss_mib": round(_median(exercises, "rss") / MIB, 1),
        "disk_mib": round(_median(exercises, "disk") / MIB, 1),
    }


def _median(exercises: Sequence[Exercise], name: str) -> float:
    return round(middle([getattr(one, name) for one in exercises]), 3)


def _of_peer(name: str, samples: Sequence[Sample], moved: int, ours: float) -> Figures:
    return {
        f"{name}_s": round(_wall(samples), 3),
        f"ratio_to_{name}": round(_wall(samples) / ours, 2),
        f"{name}_cpu_s_per_gib": round(_cpu(samples) * GIB / moved, 2) if moved else None,
        f"{name}_cpu_s": round(_cpu(samples), 3),
        f"{name}_peak_rss_mib": round(_rss(samples) / MIB, 1),
        f"{name}_requests": round(_requests(samples)),
    }


def _wall(samples: Sequence[Sample]) -> float:
    return middle([sample.run.wall for sample in samples])


def _cpu(samples: Sequence[Sample]) -> float:
    return middle([sample.run.cpu for sample in samples])


def _rss(samples: Sequence[Sample]) -> float:
    return middle([sample.run.rss for sample in samples])


def _requests(samples: Sequence[Sample]) -> float:
    return middle([len(sample.requests) for sample in samples])
