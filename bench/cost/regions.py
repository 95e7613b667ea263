"""A server of any tagferry with two embedded registries, the first of which has the tags that are synchronized."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.client import RegistryClient
from bench.content import KIB, many_tags
from bench.cost.exchange import Signed
from bench.cost.works import SYNCED, TAGS
from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION, Tagferry, restarted, served


@contextmanager
def two_regions(folder: Path, python: str) -> Iterator[Tagferry]:
    """Serve the regions by the tagferry of a Python; yields the server at the address of the source.

    Its own `bench.serve`, which serves one region, makes the accounts; `tagferry serve` takes over its data.
    """
    data = folder.with_name(f"{folder.name}-data")
    with served(folder, python=python) as first:
        (folder / "data").rename(data)
    with restarted(first, data, regions=(SOURCE_REGION, TARGET_REGION), python=python) as server:
        source, target = server.regions[SOURCE_REGION], server.regions[TARGET_REGION]
        Signed(target).ask(
            "POST", "/v2/manage/namespaces", "", json.dumps({"namespace": ORGANIZATION}).encode(), expect=201
        )
        with RegistryClient(source.address, source.login) as client:
            many_tags(client, f"{ORGANIZATION}/{SYNCED}", tags=TAGS, layer_size=2 * KIB)
        yield source
