"""The workloads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from bench.client import RegistryClient
from bench.content import KIB, MIB, Images, many_tags, one_image, wide_index
from bench.link import Link

LONG = Link(rtt=0.1, rate=200e6 / 8)
THIN = replace(LONG, connection_rate=LONG.rate / 5)

ON_LINK = 30.0
"""Seconds for the runs of a peer over a link: slow ones need a minute for one."""
SHORT = 3
"""Repeats of a work of less than a second, which other work on the machine disturbs more."""

Make = Callable[[RegistryClient, str], Images]


@dataclass(frozen=True)
class Work:
    """Copying one repository.

    Attributes:
        key: its name in the results.
        says: the description for the table.
        images: the source repository's short name; workloads that copy the same images share it.
        make: pushes the images.
        link: the link to the target.
        source_link: the link to the source.
        in_place: whether the target is up to date.
        repeats: runs for each one that is asked for.
        runs: the maximum number of runs of tagferry.
        peer_seconds: a peer makes no further run once its runs would take longer together; it makes one in any case.
        timeout: the time limit of one run in seconds.
        by_default: whether it is measured if no workloads are named.
    """

    key: str
    says: str
    images: str
    make: Make
    link: Link | None = None
    source_link: Link | None = None
    in_place: bool = False
    repeats: int = 1
    runs: int = 100
    peer_seconds: float = 60.0
    timeout: float = 300.0
    by_default: bool = True


def copying_works(*, quick: bool) -> tuple[Work, ...]:
    """Return all workloads that copy images; the quick ones are smaller and only test that everything runs."""
    layer, small = (16 * MIB, 50 * KIB) if quick else (256 * MIB, 500 * KIB)
    tags, few = (20, 5) if quick else (100, 20)
    medium = layer // 4
    big = partial(one_image, layers=4, layer_size=layer)
    less = partial(one_image, layers=4, layer_size=medium)
    single = partial(one_image, layers=1, layer_size=4 * layer)
    many = partial(many_tags, tags=tags, layer_size=small)
    part = partial(many_tags, tags=few, layer_size=small)
    wide = partial(wide_index, platforms=8, layer_size=small)
    mib, kib = layer // MIB, small // KIB
    behind = "target behind the link"
    return (
        Work("BIG", f"one image, 4 layers of {mib} MiB", "big", big),
        Work("MANY", f"{tags} tags, 6 of 8 layers of {kib} KiB shared", "many", many),
        Work("SAME", f"MANY again, all {tags} tags in place", "many", many, in_place=True, repeats=SHORT),
        Work("WIDE", f"one index, 8 platforms with 10 layers of {kib} KiB each", "wide", wide, repeats=SHORT),
        Work(
            "BIG-100ms",
            f"one image, 4 layers of {medium // MIB} MiB, {behind}",
            "medium",
            less,
            LONG,
            runs=3,
            peer_seconds=ON_LINK,
            timeout=600.0,
        ),
        Work("MANY-100ms", f"{few} tags of MANY, {behind}", "few", part, LONG, peer_seconds=ON_LINK, timeout=600.0),
        Work(
            "SAME-100ms",
            f"the same {few} tags again, all in place",
            "few",
            part,
            LONG,
            in_place=True,
            peer_seconds=ON_LINK,
            timeout=600.0,
        ),
        Work(
            "LAYER-100ms",
            f"one layer of {4 * mib} MiB, source behind the link, a fifth of its rate a connection",
            "layer",
            single,
            source_link=THIN,
            runs=1,
            peer_seconds=ON_LINK,
            timeout=600.0,
            by_default=False,
        ),
    )
