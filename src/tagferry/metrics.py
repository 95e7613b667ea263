"""What this process counts, by the names and in the form of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge

REGISTRY = CollectorRegistry()
"""Everything that is counted here; the library's own default, which tells about Python, is left alone."""

BOUND_REACHED = Counter(
    "tagferry_bound_reached",
    "How often a request, a connection or content was refused or ended because a bound was reached.",
    ["bound"],
    registry=REGISTRY,
)
"""Its label is one of a fixed set of names; `docs/limits.md` has them."""

DAMAGED_CONTENT = Counter(
    "tagferry_damaged_content",
    "How often stored content of an embedded registry was found damaged.",
    ["kind"],
    registry=REGISTRY,
)
"""By what it was: `blob`, `manifest`, `tag`, `referrer`."""

RECORDS_REFUSED = Counter(
    "tagferry_records_refused",
    "Records that the database could not take, or that could not be read, and that were left out or marked as failed.",
    ["kind"],
    registry=REGISTRY,
)
"""Its label is what the record is about: `job`, `job end`, `job progress`, `blob location`, `download count`."""

REGIONS_PAUSED = Gauge(
    "tagferry_region_paused",
    "Whether this process lets the synchronizations of a region wait because the region does not answer.",
    ["region"],
    registry=REGISTRY,
)
"""Its label is a region of the configuration."""
